#pragma once
// mmoe train --dry-run: what one rank of a job would allocate and send in a step, beside the plan.

#include "sim/cli/flags.h"

namespace mmoe {

// Adds --dry-run, --rank and --at-step.
void add_dry_run_flags(CommandLine& command);

// Throws ConfigError for flags that do not go together with --dry-run, or only with it.
void check_dry_run_flags(const Flags& flags);

// Runs it and prints a table, or JSON with --json. kDone where counted and planned agree, else kAnswerIsNo. Throws
// ConfigError for a rank or a job that cannot be.
ExitCode dry_run_command(const Flags& flags, const Job& job);

}  // namespace mmoe
