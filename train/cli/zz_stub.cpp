#include "train/cli/commands.h"
namespace mmoe { __attribute__((weak)) ExitCode allocate_command(const std::vector<std::string>&) { return ExitCode::kOurFault; } }
