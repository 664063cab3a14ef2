#pragma once
// k per layer from measured sensitivities: the exact knapsack, then a bounded number of measurements around its answer.

#include <optional>
#include <vector>

#include "sim/allocation/knapsack.h"
#include "train/loop/allocation_cost.h"
#include "train/loop/sensitivity.h"

namespace mmoe {

struct AllocationSearch {
  std::vector<int> k_per_layer;
  double loss = 0;  // measured on the search split
};

// Rounds of measuring, and allocations measured in each.
inline constexpr int kRefinementRounds = 2;
inline constexpr int kRefinementWidth = 6;

// The knapsack of predicted losses (above the base) and costs (above the fixed cost).
KnapsackProblem knapsack_problem(const Sensitivities& sensitivities, const AllocationCost& costs);

// Least measured loss of cost <= budget among the knapsack's answer, the largest uniform mix, and, in each round, those
// neighbours of the best so far that promise most: one layer up or down, or one up and another down. None where
// everything costs more. At most 2 + kRefinementRounds * kRefinementWidth measurements.
std::optional<AllocationSearch> search_within_budget(const Sensitivities& sensitivities, const AllocationCost& costs,
                                                     double budget, MeasuredLosses& losses);

// Least cost of measured loss <= limit, found in the same way; the base itself must be within the limit.
// At most 4 + kRefinementRounds * kRefinementWidth measurements.
AllocationSearch search_within_loss(const Sensitivities& sensitivities, const AllocationCost& costs, double limit,
                                    MeasuredLosses& losses);

}  // namespace mmoe
