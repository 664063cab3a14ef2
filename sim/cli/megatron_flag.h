#pragma once
// Launch settings that commands write: a job file for this project's trainer, a script for Megatron-Core.

#include <nlohmann/json.hpp>

#include "sim/cli/flags.h"

namespace mmoe {

// Adds --megatron-script FILE and --fixed-k K.
void add_megatron(CommandLine& command);

// Throws ConfigError for --fixed-k without --megatron-script.
void check_megatron(const Flags& flags);

// Writes the script that --megatron-script names and says on standard error what it could not express. Returns the same
// as JSON: `file`, `arguments` and `unexpressed`.
nlohmann::json write_megatron(const Flags& flags, const Job& job);

// A plan's best candidate: --out as a job file, --megatron-script as above (null without it).
nlohmann::json write_best(const Flags& flags, const Job& job);

}  // namespace mmoe
