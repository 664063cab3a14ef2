#include "sim/elastic/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "sim/elastic/budget_cut.h"
#include "sim/elastic/philox.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kMostExpectedDraws = 1000;
// The chance that so many draws, each kept with a probability of 1 / kMostExpectedDraws, all fail is below e^-1000.
constexpr uint64_t kMostDraws = 1'000'000;
constexpr uint64_t kKeyStep = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio: far keys for successive draws

}  // namespace

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
  method_ = config.budget->method;
  if (method_ != BudgetMethod::kReject) return;
  double log_probability = 0;
  for (const GroupBound& group : groups_) {
    const int64_t largest = counts_->largest_sum(group.size());
    log_probability += log(counts_->count(group.kind, group.size(), group.sum)) -
                       log(counts_->count(SumBound::kAtMost, group.size(), largest));
  }
  if (log_probability < -std::log(kMostExpectedDraws)) {
    throw ConfigError("elastic.budget.method = reject would need " + std::to_string(std::exp(-log_probability)) +
                      " draws of all layers for one that keeps the budget; leave it out to condition the draws");
  }
}

std::vector<int> KSampler::draw_freely(uint64_t seed, int64_t step, int64_t micro_batch) const {
  std::vector<int> extra(static_cast<size_t>(num_layers_));
  for (int layer = 0; layer < num_layers_; ++layer) {
    const uint64_t bits =
        draw_bits(seed, static_cast<uint64_t>(step), static_cast<uint64_t>(micro_batch), static_cast<uint32_t>(layer));
    extra[static_cast<size_t>(layer)] = pick(weights_.data(), static_cast<int>(weights_.size()), bits);
  }
  return extra;
}

bool KSampler::keeps_bounds(const std::vector<int>& extra) const {
  return std::all_of(groups_.begin(), groups_.end(), [&](const GroupBound& group) {
    int64_t sum = 0;
    for (const int layer : group.layers) sum += extra[static_cast<size_t>(layer)];
    return group.kind == SumBound::kExact ? sum == group.sum : sum <= group.sum;
  });
}

std::vector<int> KSampler::draw(uint64_t seed, int64_t step, int64_t global_micro_batch) const {
  const int64_t micro_batch = granularity_ == Granularity::kGlobalBatch ? 0 : global_micro_batch;
  const auto bits = [&](int layer) {
    return draw_bits(seed, static_cast<uint64_t>(step), static_cast<uint64_t>(micro_batch),
                     static_cast<uint32_t>(layer));
  };
  const int num_choices = static_cast<int>(weights_.size());
  if (granularity_ != Granularity::kLayer) {
    return std::vector<int>(static_cast<size_t>(num_layers_), k_min_ + pick(weights_.data(), num_choices, bits(0)));
  }
  std::vector<int> k(static_cast<size_t>(num_layers_));
  if (groups_.empty() || method_ != BudgetMethod::kCondition) {
    k = draw_freely(seed, step, micro_batch);
    if (method_ == BudgetMethod::kReject) {
      for (uint64_t draws = 1; !keeps_bounds(k); ++draws) {
        MMOE_CHECK(draws < kMostDraws) << "no draw keeps the budget";
        k = draw_freely(seed + draws * kKeyStep, step, micro_batch);
      }
    } else if (cuts_draws(method_)) {
      for (const GroupBound& group : groups_) {
        std::vector<int> extra;
        for (const int layer : group.layers) extra.push_back(k[static_cast<size_t>(layer)]);
        cut_draw(method_, group.sum, extra);
        for (size_t i = 0; i < extra.size(); ++i) k[static_cast<size_t>(group.layers[i])] = extra[i];
      }
    }
    for (int& k_of_layer : k) k_of_layer += k_min_;
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
