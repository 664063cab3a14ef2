#pragma once
// What an allocation costs, and the uniform allocations that it is compared with.

#include <string>
#include <vector>

#include "sim/config/model_config.h"
#include "sim/throughput/step_time.h"

namespace mmoe {

// Cost of a forward pass: fixed + sum over MoE layers of experts[layer][k - k_min].
struct AllocationCost {
  std::string kind;  // "flops" or "seconds"
  std::string unit;  // of what: "FLOPs per token"
  int k_min = 1;
  double fixed = 0;
  std::vector<std::vector<double>> experts;

  int k_max() const { return k_min + static_cast<int>(experts.front().size()) - 1; }
  int num_layers() const { return static_cast<int>(experts.size()); }
  double total(const std::vector<int>& k_per_layer) const;
  double least() const;  // of all allocations
  double uniform(int k) const { return total(std::vector<int>(experts.size(), k)); }
};

// Forward model FLOPs per token at this sequence length.
AllocationCost flops_cost(const ModelConfig& model, double seq_len, int k_min, int k_max);

// Predicted seconds of the forward pass of one micro-batch.
AllocationCost seconds_cost(const StepTimeModel& model, int k_min, int k_max);

// The uniform allocation of a given sum of k: every layer has the floor of the mean k, and as many layers as it takes,
// spread evenly over the depth, have one more.
std::vector<int> uniform_mix(int num_layers, int sum_k);

// The uniform mix, k_min to k_max, whose cost is nearest to `cost`; of two equally near the one of the larger sum.
std::vector<int> uniform_mix_of_cost(const AllocationCost& costs, double cost);

// The uniform mix of the largest sum that costs at most `budget` (to 1e-9 of it); all at k_min where none does.
std::vector<int> largest_uniform_mix(const AllocationCost& costs, double budget);

double mean_k(const std::vector<int>& k_per_layer);

}  // namespace mmoe
