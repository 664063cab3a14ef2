#pragma once
// The flag --threads of the trainer's commands.

#include "sim/cli/flags.h"

namespace mmoe {

// Adds --threads.
void add_threads(CommandLine& command);
// Sets LibTorch's intra-op threads: as --threads says, else an equal share of the cores for each of `processes` on this
// machine (OMP_NUM_THREADS comes first). Throws ConfigError unless 1 <= threads <= 1024.
void use_threads(const Flags& flags, int64_t processes = 1);

}  // namespace mmoe
