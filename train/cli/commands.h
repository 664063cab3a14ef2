#pragma once
// The commands of mmoe-train, one source file each.

#include <string>
#include <vector>

#include "sim/cli/program.h"

namespace mmoe {

ExitCode train_command(const std::vector<std::string>& arguments);
ExitCode eval_command(const std::vector<std::string>& arguments);
ExitCode generate_command(const std::vector<std::string>& arguments);
ExitCode import_command(const std::vector<std::string>& arguments);
ExitCode export_command(const std::vector<std::string>& arguments);
ExitCode profile_command(const std::vector<std::string>& arguments);
ExitCode allocate_command(const std::vector<std::string>& arguments);

std::vector<Command> trainer_commands();

}  // namespace mmoe
