#pragma once
// Numbers of active experts as flags of the commands that take a checkpoint.

#include <string>
#include <vector>

#include "sim/cli/flags.h"
#include "sim/config/job.h"

namespace mmoe {

// The flag `name` as a list, or k_min to k_max of the job; each between 1 and num_experts.
std::vector<int> evaluated_ks(const Flags& flags, const Job& job, const std::string& name = "k");

// One k a MoE layer: by --allocation, by --k (one number), or k_max everywhere. Throws ConfigError.
std::vector<int> chosen_k(const Flags& flags, const Job& job);

// `k_per_layer` of an allocation file: one k for each MoE layer. Throws ConfigError.
std::vector<int> read_allocation(const std::string& path, const Job& job);

}  // namespace mmoe
