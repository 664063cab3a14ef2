#include "train/loop/allocation_search.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace mmoe {
namespace {

using Ks = std::vector<int>;
constexpr int kLayers = 4, kMin = 1, kMax = 4;

double additive(const Ks& k) { return 2 + 0.8 / k[0] + 0.1 / k[1] + 0.5 / k[2] + 0.05 / k[3]; }
// Layers 0 and 2 serve the same end: after one of them, the other is worth little.
double interacting(const Ks& k) { return additive(k) + 0.6 / (k[0] + k[2]) - 0.05 * k[1] * (k[3] - 2); }

// Costs of k that differ by layer, on top of a fixed cost.
AllocationCost costs() {
  AllocationCost cost{"seconds", "", kMin, 5, {}};
  for (int l = 0; l < kLayers; ++l) {
    std::vector<double>& layer = cost.experts.emplace_back();
    for (int k = kMin; k <= kMax; ++k) layer.push_back(1 + k * (1 + 0.1 * l));
  }
  return cost;
}

void for_each_allocation(const std::function<void(const Ks&)>& body) {
  Ks k(kLayers, kMin);
  while (true) {
    body(k);
    int l = 0;
    while (l < kLayers && k[l] == kMax) k[l++] = kMin;
    if (l == kLayers) return;
    ++k[l];
  }
}

TEST(SearchWithinBudget, FindsTheBestOfAllWhereLayersDoNotInteract) {
  const AllocationCost cost = costs();
  for (double budget = cost.least(); budget < cost.uniform(kMax) + 1; budget += 1.7) {
    MeasuredLosses losses(additive);
    const Sensitivities sensitivities = measure_sensitivities(losses, kLayers, 2, kMin, kMax);
    const auto found = search_within_budget(sensitivities, cost, budget, losses);
    double best = std::numeric_limits<double>::infinity();
    for_each_allocation([&](const Ks& k) {
      if (cost.total(k) <= budget) best = std::min(best, additive(k));
    });
    ASSERT_TRUE(found.has_value());
    EXPECT_NEAR(found->loss, best, 1e-12) << budget;  // rounding of predicted sums may swap equal allocations
    EXPECT_LE(cost.total(found->k_per_layer), budget * (1 + 1e-9));
  }
}

TEST(SearchWithinBudget, MeasuresAroundThePredictionAndTakesNothingWorse) {
  const AllocationCost cost = costs();
  const double budget = cost.uniform(2);
  MeasuredLosses losses(interacting);
  const Sensitivities sensitivities = measure_sensitivities(losses, kLayers, 2, kMin, kMax);
  const auto predicted = solve_knapsack(knapsack_problem(sensitivities, cost), budget - cost.fixed);
  const int before = losses.count();
  const auto found = search_within_budget(sensitivities, cost, budget, losses);
  ASSERT_TRUE(predicted && found);
  EXPECT_LE(losses.count() - before, 2 + kRefinementRounds * kRefinementWidth);
  EXPECT_LE(cost.total(found->k_per_layer), budget * (1 + 1e-9));
  EXPECT_EQ(found->loss, interacting(found->k_per_layer));
  EXPECT_LT(found->loss, interacting(predicted->k_per_layer));
  EXPECT_LE(found->loss, interacting(largest_uniform_mix(cost, budget)));
}

TEST(SearchWithinBudget, PrefersUniformWhereNothingMatters) {
  const AllocationCost cost = costs();
  MeasuredLosses losses([](const Ks&) { return 3.0; });
  const Sensitivities sensitivities = measure_sensitivities(losses, kLayers, 2, kMin, kMax);
  const double budget = cost.uniform(2);
  EXPECT_EQ(search_within_budget(sensitivities, cost, budget, losses)->k_per_layer, largest_uniform_mix(cost, budget));
}

TEST(SearchWithinBudget, SaysNoBelowTheLeastCost) {
  const AllocationCost cost = costs();
  MeasuredLosses losses(additive);
  const Sensitivities sensitivities = measure_sensitivities(losses, kLayers, 2, kMin, kMax);
  EXPECT_FALSE(search_within_budget(sensitivities, cost, 0.99 * cost.least(), losses).has_value());
}

TEST(SearchWithinLoss, FindsTheCheapestOfAllWhereLayersDoNotInteract) {
  const AllocationCost cost = costs();
  for (const double increase : {0.0, 0.02, 0.1, 0.3, 2.0}) {
    const double limit = additive(Ks(kLayers, kMax)) + increase;
    MeasuredLosses losses(additive);
    const Sensitivities sensitivities = measure_sensitivities(losses, kLayers, kMax, kMin, kMax);
    const AllocationSearch found = search_within_loss(sensitivities, cost, limit, losses);
    double least = std::numeric_limits<double>::infinity();
    for_each_allocation([&](const Ks& k) {
      if (additive(k) <= limit) least = std::min(least, cost.total(k));
    });
    EXPECT_LE(found.loss, limit);
    EXPECT_NEAR(cost.total(found.k_per_layer), least, 1e-9) << increase;
  }
}

TEST(SearchWithinLoss, KeepsTheLimitWhereThePredictionIsWrong) {
  const AllocationCost cost = costs();
  for (const double increase : {0.0, 0.05, 0.2, 0.5}) {
    const double limit = interacting(Ks(kLayers, kMax)) + increase;
    MeasuredLosses losses(interacting);
    const Sensitivities sensitivities = measure_sensitivities(losses, kLayers, kMax, kMin, kMax);
    const int before = losses.count();
    const AllocationSearch found = search_within_loss(sensitivities, cost, limit, losses);
    EXPECT_LE(interacting(found.k_per_layer), limit);
    EXPECT_LE(cost.total(found.k_per_layer), cost.uniform(kMax));
    EXPECT_LE(losses.count() - before, 4 + kRefinementRounds * kRefinementWidth);
  }
}

}  // namespace
}  // namespace mmoe
