#include "sim/elastic/sampler.h"

#include <algorithm>

#include "sim/elastic/philox.h"
#include "sim/units/errors.h"

namespace mmoe {

KSampler::KSampler(const ElasticConfig& config, int num_moe_layers, int micro_batches_in_flight)
    : num_layers_(num_moe_layers),
      k_min_(config.k_min),
      granularity_(config.granularity),
      weights_(draw_weights(config)) {
  MMOE_CHECK(num_moe_layers >= 1 && num_moe_layers < 65536) << num_moe_layers << " layers";
  const std::vector<GroupBound> bounds = group_bounds(config, num_moe_layers, micro_batches_in_flight);
  if (granularity_ != Granularity::kLayer) {
    weights_ = shared_draw_weights(weights_, bounds);
    return;
  }
  if (!config.budget) return;
  int largest_group = 0;
  for (const GroupBound& bound : bounds) largest_group = std::max(largest_group, bound.size());
  counts_ = std::make_shared<SumCounts>(weights_, largest_group);
  groups_ = bounds;
}

std::vector<int> KSampler::draw(uint64_t seed, int64_t step, int64_t global_micro_batch) const {
  const auto bits = [&](int layer) {
    const int64_t micro_batch = granularity_ == Granularity::kGlobalBatch ? 0 : global_micro_batch;
    return draw_bits(seed, static_cast<uint64_t>(step), static_cast<uint64_t>(micro_batch),
                     static_cast<uint32_t>(layer));
  };
  const int num_choices = static_cast<int>(weights_.size());
  if (granularity_ != Granularity::kLayer) {
    return std::vector<int>(static_cast<size_t>(num_layers_), k_min_ + pick(weights_.data(), num_choices, bits(0)));
  }
  std::vector<int> k(static_cast<size_t>(num_layers_));
  if (groups_.empty()) {
    for (int layer = 0; layer < num_layers_; ++layer) {
      k[static_cast<size_t>(layer)] = k_min_ + pick(weights_.data(), num_choices, bits(layer));
    }
    return k;
  }
  std::vector<ScaledCount> weights(weights_.size());
  for (const GroupBound& group : groups_) {
    int64_t left = group.sum;  // what the bound leaves to the layers not yet drawn
    for (int num_left = group.size(); num_left >= 1; --num_left) {
      const int layer = group.layers[static_cast<size_t>(num_left) - 1];
      counts_->choice_weights(group.kind, num_left, left, weights.data());
      const int j = pick(weights.data(), num_choices, bits(layer));
      k[static_cast<size_t>(layer)] = k_min_ + j;
      left -= j;
    }
  }
  return k;
}

}  // namespace mmoe
