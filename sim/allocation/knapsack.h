#pragma once
// k per layer under a compute budget: the multiple-choice knapsack.

#include <cstddef>
#include <optional>
#include <vector>

namespace mmoe {

// Choose one k in k_min, k_min + 1, ... for each layer: least sum of loss[layer][k - k_min] with the sum of
// cost[layer][k - k_min] within a budget. All numbers finite; layers may have different numbers of choices.
struct KnapsackProblem {
  int k_min = 1;
  std::vector<std::vector<double>> loss;
  std::vector<std::vector<double>> cost;
};

struct KnapsackSolution {
  std::vector<int> k_per_layer;
  double loss = 0;
  double cost = 0;
  double gap = 0;  // the loss is at most this above the least possible; 0: proven exact
};

// The best allocation of cost <= budget, or none if the cheapest costs more. Dynamic programming over undominated
// partial allocations, pruned by the linear relaxation (Dyer 1984; Pisinger 1995); exact (gap 0) unless more than
// max_states partial allocations survive at a layer, and then with the proven gap. Sums of costs and of losses are
// compared to 1e-12 of the largest possible sum, so that a budget computed in another order of sums still fits.
std::optional<KnapsackSolution> solve_knapsack(const KnapsackProblem& problem, double budget,
                                               std::size_t max_states = 1u << 18);

struct KnapsackFront {
  std::vector<KnapsackSolution> points;  // by rising cost and falling loss; each the best for its own cost
  bool complete = true;                  // every undominated allocation is listed
};

// The front of undominated (cost, loss). Where it has more than max_states points on the way, the best allocations for
// num_budgets equally spaced budgets instead, each exact as in solve_knapsack.
KnapsackFront knapsack_front(const KnapsackProblem& problem, std::size_t num_budgets = 64,
                             std::size_t max_states = 1u << 16);

}  // namespace mmoe
