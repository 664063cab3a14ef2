#pragma once
// The flag --threads of the trainer's commands.

#include "sim/cli/flags.h"

namespace mmoe {

// Adds --threads.
void add_threads(CommandLine& command);
// Sets LibTorch's intra-op threads; throws ConfigError unless 1 <= threads <= 1024.
void use_threads(const Flags& flags);

}  // namespace mmoe
