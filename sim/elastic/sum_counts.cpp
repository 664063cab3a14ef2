#include "sim/elastic/sum_counts.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {

std::vector<ScaledCount> draw_weights(const ElasticConfig& config) {
  MMOE_CHECK(config.sampling != Sampling::kTopP) << "top_p chooses k per token; it has no law of draws";
  MMOE_CHECK(config.k_min >= 1 && config.k_min <= config.k_max) << config.k_min << ".." << config.k_max;
  MMOE_CHECK(config.sampling != Sampling::kFixed || config.k_min == config.k_max) << "fixed needs k_min = k_max";
  if (config.sampling == Sampling::kTilted) {
    return tilted_weights(config.k_max - config.k_min + 1, config.mean_k - config.k_min);
  }
  std::vector<ScaledCount> weights;
  for (int k = config.k_min; k <= config.k_max; ++k) {
    const bool weighted = config.sampling == Sampling::kCapacityWeighted;
    weights.push_back(weighted ? power(static_cast<uint32_t>(k), 1 / config.tau) : ScaledCount::of(1));
  }
  return weights;
}

SumCounts::SumCounts(std::vector<ScaledCount> weights, int num_layers) : weights_(std::move(weights)) {
  exact_.push_back({ScaledCount::of(1)});
  at_most_ = exact_;
  for (int layers = 1; layers <= num_layers; ++layers) {
    const auto& shorter = exact_.back();
    std::vector<ScaledCount> sums(static_cast<size_t>(largest_sum(layers)) + 1);
    for (size_t sum = 0; sum < shorter.size(); ++sum) {
      for (size_t j = 0; j < weights_.size(); ++j) sums[sum + j] = sums[sum + j] + shorter[sum] * weights_[j];
    }
    std::vector<ScaledCount> cumulative = sums;
    for (size_t sum = 1; sum < cumulative.size(); ++sum) cumulative[sum] = cumulative[sum] + cumulative[sum - 1];
    exact_.push_back(std::move(sums));
    at_most_.push_back(std::move(cumulative));
  }
}

ScaledCount SumCounts::count(SumBound kind, int num_layers, int64_t sum) const {
  if (sum < 0) return {};
  const auto& table = (kind == SumBound::kExact ? exact_ : at_most_)[static_cast<size_t>(num_layers)];
  if (sum < static_cast<int64_t>(table.size())) return table[static_cast<size_t>(sum)];
  return kind == SumBound::kExact ? ScaledCount{} : table.back();
}

void SumCounts::choice_weights(SumBound kind, int num_layers, int64_t sum, ScaledCount* weights) const {
  for (int j = 0; j < num_choices(); ++j) {
    weights[j] = weights_[static_cast<size_t>(j)] * count(kind, num_layers - 1, sum - j);
  }
}

std::vector<GroupBound> group_bounds(const ElasticConfig& config, int num_layers, int micro_batches_in_flight) {
  const int64_t range = config.k_max - config.k_min;
  if (!config.budget) {
    std::vector<int> layers(static_cast<size_t>(num_layers));
    std::iota(layers.begin(), layers.end(), 0);
    return {{std::move(layers), num_layers * range, SumBound::kAtMost}};
  }
  const Budget& budget = *config.budget;
  MMOE_CHECK(budget.groups.size() == budget.sum_k.size()) << "groups and sum_k";
  MMOE_CHECK(micro_batches_in_flight >= 1) << micro_batches_in_flight;
  const std::vector<std::vector<int64_t>> group_layers = budget.group_layers();
  std::vector<GroupBound> bounds;
  std::vector<int> groups_of_layer(static_cast<size_t>(num_layers));
  for (size_t g = 0; g < group_layers.size(); ++g) {
    const auto size = static_cast<int64_t>(group_layers[g].size());
    int64_t sum_k = budget.sum_k[g];
    if (budget.kind == BudgetKind::kWindow) sum_k /= micro_batches_in_flight;
    const SumBound kind = budget.kind == BudgetKind::kExact ? SumBound::kExact : SumBound::kAtMost;
    const int64_t sum = sum_k - size * config.k_min;
    MMOE_CHECK(size >= 1 && sum >= 0 && (kind == SumBound::kAtMost || sum <= size * range))
        << "group " << g << " of " << size << " layers cannot keep sum_k = " << sum_k;
    GroupBound& bound = bounds.emplace_back(GroupBound{{}, std::min(sum, size * range), kind});
    for (const int64_t layer : group_layers[g]) {
      MMOE_CHECK(layer >= 0 && layer < num_layers) << "layer " << layer << " of " << num_layers;
      bound.layers.push_back(static_cast<int>(layer));
      ++groups_of_layer[static_cast<size_t>(layer)];
    }
  }
  const bool once = std::all_of(groups_of_layer.begin(), groups_of_layer.end(), [](int n) { return n == 1; });
  MMOE_CHECK(once) << "every MoE layer belongs to one group";
  return bounds;
}

std::vector<ScaledCount> shared_draw_weights(const std::vector<ScaledCount>& weights,
                                             const std::vector<GroupBound>& bounds) {
  std::vector<ScaledCount> allowed = weights;
  for (size_t j = 0; j < allowed.size(); ++j) {
    for (const GroupBound& bound : bounds) {
      const int64_t sum = bound.size() * static_cast<int64_t>(j);
      if (bound.kind == SumBound::kExact ? sum != bound.sum : sum > bound.sum) allowed[j] = {};
    }
  }
  const bool any = std::any_of(allowed.begin(), allowed.end(), [](ScaledCount w) { return !w.is_zero(); });
  MMOE_CHECK(any) << "no k for all layers keeps every group's bound";
  return allowed;
}

}  // namespace mmoe
