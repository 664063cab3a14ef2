#pragma once
// The trainer's operations on one layer, by the kernels and by plain LibTorch operators, beside the machine's peaks.

#include <iosfwd>
#include <vector>

#include "profiles/store/profile.h"
#include "sim/config/job.h"

namespace mmoe::bench {

// Two profiles of the same jobs, but for training.operations.
struct LayerProfiles {
  Profile kernels, aten;
};

// Times every operation of each job at every k. Throws ConfigError where a job cannot be trained here.
LayerProfiles profile_layers(const std::vector<Job>& jobs, int repetitions);

// One line an operation and phase, at the least and the largest k: its least traffic and its FLOPs by
// sim/throughput/operations.h over its median time, and LibTorch's time over the kernels'.
void print_layers(const LayerProfiles& profiles, const std::vector<Job>& jobs, std::ostream& out);

}  // namespace mmoe::bench
