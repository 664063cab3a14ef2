#pragma once
// Every draw of a small model with its probability, straight from the definition: what the laws are tested against.

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "sim/config/elastic_config.h"

namespace mmoe {

struct EnumeratedDraw {
  std::vector<int> k;
  double probability;
};

inline double enumerated_weight(const ElasticConfig& config, int k) {
  return config.sampling == Sampling::kCapacityWeighted ? std::pow(k, 1 / config.tau) : 1;
}

inline bool keeps_budget(const ElasticConfig& config, const std::vector<int>& k) {
  if (!config.budget) return true;
  const auto groups = config.budget->group_layers();
  for (size_t g = 0; g < groups.size(); ++g) {
    int64_t sum = 0;
    for (const int64_t layer : groups[g]) sum += k[static_cast<size_t>(layer)];
    const int64_t bound = config.budget->sum_k[g];
    if (config.budget->kind == BudgetKind::kExact ? sum != bound : sum > bound) return false;
  }
  return true;
}

// All draws that keep the budget; probabilities sum to 1. `budget_probability`, if given, gets the free law's
// probability of the budget.
inline std::vector<EnumeratedDraw> enumerate(const ElasticConfig& config, int num_layers,
                                             double* budget_probability = nullptr) {
  std::vector<EnumeratedDraw> draws;
  double all = 0, kept = 0;
  const auto add = [&](const std::vector<int>& k, double weight) {
    all += weight;
    if (!keeps_budget(config, k)) return;
    kept += weight;
    draws.push_back({k, weight});
  };
  if (config.granularity != Granularity::kLayer) {
    for (int k = config.k_min; k <= config.k_max; ++k) {
      add(std::vector<int>(static_cast<size_t>(num_layers), k), enumerated_weight(config, k));
    }
  } else {
    std::vector<int> k;
    const std::function<void(double)> descend = [&](double weight) {
      if (static_cast<int>(k.size()) == num_layers) return add(k, weight);
      for (int next = config.k_min; next <= config.k_max; ++next) {
        k.push_back(next);
        descend(weight * enumerated_weight(config, next));
        k.pop_back();
      }
    };
    descend(1);
  }
  for (EnumeratedDraw& draw : draws) draw.probability /= kept;
  if (budget_probability) *budget_probability = kept / all;
  return draws;
}

inline ElasticConfig elastic_config(int k_min, int k_max, Granularity granularity = Granularity::kLayer,
                                    Sampling sampling = Sampling::kUniform, double tau = 2) {
  ElasticConfig config;
  config.k_min = k_min;
  config.k_max = k_max;
  config.granularity = granularity;
  config.sampling = sampling;
  config.tau = tau;
  return config;
}

inline ElasticConfig with_budget(ElasticConfig config, BudgetKind kind, std::vector<int64_t> groups,
                                 std::vector<int64_t> sum_k) {
  config.budget = Budget{kind, std::move(groups), std::move(sum_k), {}};
  return config;
}

struct ElasticCase {
  const char* name;
  ElasticConfig config;
  int num_layers;
};

// Granularities, sampling laws and budgets small enough to enumerate, with the extremes of each bound.
inline std::vector<ElasticCase> elastic_cases() {
  const ElasticConfig uniform = elastic_config(1, 4);
  const ElasticConfig weighted = elastic_config(2, 5, Granularity::kLayer, Sampling::kCapacityWeighted, 0.7);
  const ElasticConfig shared = elastic_config(1, 6, Granularity::kMicroBatch, Sampling::kCapacityWeighted, 3);
  const auto at_most = BudgetKind::kAtMost, exact = BudgetKind::kExact, window = BudgetKind::kWindow;
  ElasticConfig interleaved = with_budget(weighted, at_most, {4, 2}, {12, 6});
  interleaved.budget->layers = {{0, 1, 4, 5}, {2, 3}};
  return {
      {"free", uniform, 6},
      {"free_weighted", weighted, 6},
      {"single_layer", uniform, 1},
      {"one_choice", elastic_config(3, 3, Granularity::kLayer, Sampling::kFixed), 4},
      {"one_choice_budgeted", with_budget(elastic_config(3, 3), at_most, {4}, {12}), 4},
      {"at_most", with_budget(uniform, at_most, {6}, {13}), 6},
      {"at_most_least", with_budget(uniform, at_most, {6}, {6}), 6},
      {"at_most_largest", with_budget(uniform, at_most, {6}, {24}), 6},
      {"exact", with_budget(uniform, exact, {6}, {17}), 6},
      {"exact_least", with_budget(uniform, exact, {6}, {6}), 6},
      {"exact_largest", with_budget(uniform, exact, {6}, {24}), 6},
      {"exact_single_layer", with_budget(uniform, exact, {1}, {3}), 1},
      {"window", with_budget(uniform, window, {6}, {11}), 6},
      {"groups_at_most", with_budget(weighted, at_most, {2, 3, 1}, {7, 9, 3}), 6},
      {"groups_exact", with_budget(weighted, exact, {2, 3, 1}, {7, 9, 3}), 6},
      {"groups_interleaved", interleaved, 6},
      {"shared", shared, 5},
      {"shared_at_most", with_budget(shared, at_most, {2, 3}, {9, 12}), 5},
      {"shared_exact", with_budget(shared, exact, {2, 3}, {8, 12}), 5},
      {"global", elastic_config(1, 6, Granularity::kGlobalBatch), 5},
  };
}

// Those whose groups are runs of layers.
inline std::vector<ElasticCase> elastic_cases_in_runs() {
  std::vector<ElasticCase> cases = elastic_cases();
  std::erase_if(cases, [](const ElasticCase& one) { return one.config.budget && !one.config.budget->layers.empty(); });
  return cases;
}

}  // namespace mmoe
