#pragma once
// Weighted counts of the ways in which layers reach a sum: what conditioning on a budget needs.

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/scaled_count.h"

namespace mmoe {

enum class SumBound { kAtMost, kExact };

// Weights of k_min..k_max before any budget (uniform: 1; capacity_weighted: k^(1/tau); tilted: r^(k - k_min)). Refuses
// top_p (MMOE_CHECK).
std::vector<ScaledCount> draw_weights(const ElasticConfig& config);

// Sums are of k_l - k_min, so they start at 0.
class SumCounts {
 public:
  SumCounts(std::vector<ScaledCount> weights, int num_layers);

  int num_choices() const { return static_cast<int>(weights_.size()); }
  const std::vector<ScaledCount>& weights() const { return weights_; }
  int64_t largest_sum(int num_layers) const { return int64_t{num_layers} * (num_choices() - 1); }
  // Total weight of the draws of num_layers layers whose sum is exactly, or at most, `sum`; 0 for negative sums.
  ScaledCount count(SumBound kind, int num_layers, int64_t sum) const;
  // weight of choice j for one more layer: weights[j] * count(kind, num_layers - 1, sum - j), for all j.
  void choice_weights(SumBound kind, int num_layers, int64_t sum, ScaledCount* weights) const;

 private:
  std::vector<ScaledCount> weights_;
  std::vector<std::vector<ScaledCount>> exact_, at_most_;  // [layers][sum]
};

// The bound that a budget puts on the sum of k_l - k_min of a group in one micro-batch.
struct GroupBound {
  std::vector<int> layers;  // MoE layers, rising
  int64_t sum = 0;
  SumBound kind = SumBound::kAtMost;
  int size() const { return static_cast<int>(layers.size()); }
};

// The budget's groups with their bounds in one micro-batch (`window`: floor(B / micro_batches_in_flight)); without a
// budget one group of all layers with the largest sum as its bound. MMOE_CHECKs that every bound can be met.
std::vector<GroupBound> group_bounds(const ElasticConfig& config, int num_layers, int micro_batches_in_flight);

// weights of the one k for all layers with those set to 0 that break a group's bound.
std::vector<ScaledCount> shared_draw_weights(const std::vector<ScaledCount>& weights,
                                             const std::vector<GroupBound>& bounds);

}  // namespace mmoe
