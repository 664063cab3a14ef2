#include "train/cli/commands.h"
namespace mmoe { ExitCode profile_command(const std::vector<std::string>&) { return ExitCode::kOurFault; }
ExitCode allocate_command(const std::vector<std::string>&) { return ExitCode::kOurFault; } }
