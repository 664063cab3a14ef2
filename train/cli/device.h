#pragma once
// The device and threads that a trainer command runs on.

#include <c10/core/Device.h>

#include "sim/cli/flags.h"
#include "sim/config/job.h"

namespace mmoe {

// Adds --threads.
void add_threads(CommandLine& command);
// Sets LibTorch's intra-op threads; throws ConfigError unless 1 <= threads <= 1024.
void use_threads(const Flags& flags);

// The job's device: the CPU, or CUDA device 0. Throws ConfigError where the job's device is not there.
c10::Device training_device(const Job& job);

}  // namespace mmoe
