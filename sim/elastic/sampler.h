#pragma once
// Draws of k: counter-based, exact, the same on every machine.

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/sum_counts.h"

namespace mmoe {

// Draws (k_1, ..., k_L) from the law that ElasticLaw describes, as a pure function of (seed, step, global micro-batch,
// layer): Philox4x32-10 keyed by the seed gives 64 random bits for each (step, micro-batch, layer), and integer
// arithmetic alone turns them into k (capacity_weighted's 1/tau is one IEEE division), so no maths library, contraction
// or rounding mode can change a draw. Without a budget layer l's k depends on its own bits alone. With one, the layers
// of a group are drawn from last to first, each given the sum of those already drawn (sequential conditional counting):
// O(layers (k_max - k_min + 1)) a draw. Probabilities are met to about 2^-60. Of the budget's other methods `reject`
// draws freely again, each time with a key of its own, and `clip` and `rescale` cut a free draw.
class KSampler {
 public:
  // The config must have passed ElasticConfig::validate; sampling `top_p` is refused (MMOE_CHECK). Throws ConfigError
  // where method `reject` would need more than 1000 draws on average.
  KSampler(const ElasticConfig& config, int num_moe_layers, int micro_batches_in_flight = 1);

  // k of every MoE layer. Granularity global_batch ignores the micro-batch; with elastic.share = replicas the caller
  // passes the index within the replica's step instead of the global one.
  std::vector<int> draw(uint64_t seed, int64_t step, int64_t global_micro_batch) const;

 private:
  // k - k_min of every layer, each by its own bits.
  std::vector<int> draw_freely(uint64_t seed, int64_t step, int64_t micro_batch) const;
  bool keeps_bounds(const std::vector<int>& extra) const;

  int num_layers_, k_min_;
  Granularity granularity_;
  BudgetMethod method_ = BudgetMethod::kCondition;
  std::vector<ScaledCount> weights_;  // of k_min..k_max; with one k for all layers those that keep the budget
  std::shared_ptr<const SumCounts> counts_;
  std::vector<GroupBound> groups_;  // empty: no budget
};

}  // namespace mmoe
