#pragma once
// The commands of `mmoe` that need no LibTorch, one source file each. Each takes the words after its name.

#include <string>
#include <vector>

#include "sim/cli/flags.h"

namespace mmoe {

ExitCode simulate_command(const std::vector<std::string>& arguments);
ExitCode compare_command(const std::vector<std::string>& arguments);
ExitCode presets_command(const std::vector<std::string>& arguments);
ExitCode plan_command(const std::vector<std::string>& arguments);
ExitCode budget_command(const std::vector<std::string>& arguments);
ExitCode validate_command(const std::vector<std::string>& arguments);
ExitCode calibrate_command(const std::vector<std::string>& arguments);
ExitCode loop_command(const std::vector<std::string>& arguments);
ExitCode study_command(const std::vector<std::string>& arguments);
ExitCode report_command(const std::vector<std::string>& arguments);

}  // namespace mmoe
