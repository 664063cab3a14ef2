#pragma once
// The routing that a run of `mmoe train --moe-metrics` has written into its metrics.jsonl.

#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// One MoE layer in one step.
struct RoutedLayer {
  std::vector<double> rows;  // [expert]: (token, expert) pairs of the global batch
  std::vector<double> k;     // of each micro-batch of all replicas; empty where the line has no k_per_layer
};

// The steps that tell of routing, in order; of each its MoE layers. The file is training.moe.load. Throws ConfigError.
std::vector<std::vector<RoutedLayer>> routed_steps(const Job& job);

}  // namespace mmoe
