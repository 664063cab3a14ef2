#pragma once
// The flags of `mmoe train` that say what to watch and record.

#include "sim/cli/flags.h"
#include "train/loop/run.h"

namespace mmoe {

void add_watch_flags(CommandLine& command);

// Fills in what the flags say. Throws ConfigError for values out of range and for what the job's device cannot do.
void read_watch_flags(const Flags& flags, const Job& job, RunOptions& options);

}  // namespace mmoe
