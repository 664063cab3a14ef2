#include "train/loop/allocation_search.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kRounding = 1e-9;  // relative: costs are sums in another order than the budget's

// Is a better than b?
using Better = std::function<bool(const AllocationSearch& a, const AllocationSearch& b)>;
using Allowed = std::function<bool(const std::vector<int>& k_per_layer)>;

std::vector<std::vector<int>> neighbours(const std::vector<int>& center, int k_min, int k_max) {
  std::vector<std::vector<int>> found;
  const size_t layers = center.size();
  for (size_t i = 0; i < layers; ++i) {
    for (const int step : {-1, 1}) {
      std::vector<int> k = center;
      k[i] += step;
      if (k[i] < k_min || k[i] > k_max) continue;
      found.push_back(k);
      for (size_t j = 0; step == 1 && j < layers; ++j) {
        if (j == i || k[j] == k_min) continue;
        found.push_back(k);
        --found.back()[j];
      }
    }
  }
  return found;
}

// Measures those neighbours of the best allocation that are allowed and promise most, round after round.
AllocationSearch refine(AllocationSearch best, const Sensitivities& sensitivities, const AllocationCost& costs,
                        const Allowed& allowed, const Better& better, MeasuredLosses& losses) {
  for (int round = 0; round < kRefinementRounds; ++round) {
    std::vector<AllocationSearch> candidates;
    for (std::vector<int>& k : neighbours(best.k_per_layer, costs.k_min, costs.k_max())) {
      if (losses.knows(k) || !allowed(k)) continue;
      // The measured loss of the centre and the predicted change from it.
      const double change = sensitivities.predicted_loss(k) - sensitivities.predicted_loss(best.k_per_layer);
      candidates.push_back({std::move(k), best.loss + change});
    }
    const size_t width = std::min<size_t>(kRefinementWidth, candidates.size());
    std::partial_sort(candidates.begin(), candidates.begin() + static_cast<int64_t>(width), candidates.end(), better);
    bool improved = false;
    for (size_t i = 0; i < width; ++i) {
      AllocationSearch candidate{candidates[i].k_per_layer, losses.at(candidates[i].k_per_layer)};
      if (!allowed(candidate.k_per_layer) || !better(candidate, best)) continue;
      best = std::move(candidate);
      improved = true;
    }
    if (!improved && width < kRefinementWidth) break;  // nothing is left to measure around it
  }
  return best;
}

}  // namespace

KnapsackProblem knapsack_problem(const Sensitivities& sensitivities, const AllocationCost& costs) {
  MMOE_CHECK(sensitivities.k_min == costs.k_min) << "k_min = " << costs.k_min;
  return {costs.k_min, sensitivities.increase, costs.experts};
}

std::optional<AllocationSearch> search_within_budget(const Sensitivities& sensitivities, const AllocationCost& costs,
                                                     double budget, MeasuredLosses& losses) {
  budget *= 1 + kRounding;
  const auto solution = solve_knapsack(knapsack_problem(sensitivities, costs), budget - costs.fixed);
  if (!solution) return std::nullopt;
  const Allowed allowed = [&](const std::vector<int>& k) { return costs.total(k) <= budget; };
  const Better better = [](const AllocationSearch& a, const AllocationSearch& b) { return a.loss < b.loss; };
  // Whatever has been measured counts: uniform first, so that it wins a tie.
  const std::vector<int> uniform = largest_uniform_mix(costs, budget);
  AllocationSearch best{solution->k_per_layer, losses.at(solution->k_per_layer)};
  if (allowed(uniform) && losses.at(uniform) <= best.loss) best = {uniform, losses.at(uniform)};
  for (const auto& [k, loss] : losses.all()) {
    if (loss < best.loss && allowed(k)) best = {k, loss};
  }
  return refine(std::move(best), sensitivities, costs, allowed, better, losses);
}

AllocationSearch search_within_loss(const Sensitivities& sensitivities, const AllocationCost& costs, double limit,
                                    MeasuredLosses& losses) {
  const Better better = [&](const AllocationSearch& a, const AllocationSearch& b) {
    const bool a_fits = a.loss <= limit, b_fits = b.loss <= limit;
    if (a_fits != b_fits) return a_fits;
    if (!a_fits) return a.loss < b.loss;
    const double a_cost = costs.total(a.k_per_layer), b_cost = costs.total(b.k_per_layer);
    if (std::abs(a_cost - b_cost) > kRounding * b_cost) return a_cost < b_cost;
    return a.loss < b.loss;
  };
  AllocationSearch best{std::vector<int>(costs.num_layers(), sensitivities.base_k), sensitivities.base_loss};
  MMOE_CHECK(best.loss <= limit) << "the base's loss " << best.loss << " is above " << limit;
  const auto consider = [&](const std::vector<int>& k, double loss) {
    AllocationSearch candidate{k, loss};
    if (better(candidate, best)) best = std::move(candidate);
  };
  for (const auto& [k, loss] : losses.all()) consider(k, loss);
  // The cheapest allocation that should keep the limit; where it does not, the next one is asked for as much more as
  // the prediction fell short by.
  const KnapsackFront front = knapsack_front(knapsack_problem(sensitivities, costs));
  double target = limit;
  for (int attempt = 0; attempt < 4; ++attempt) {
    const auto point = std::find_if(front.points.begin(), front.points.end(), [&](const KnapsackSolution& p) {
      return sensitivities.base_loss + p.loss <= target;
    });
    if (point == front.points.end() || costs.total(point->k_per_layer) >= costs.total(best.k_per_layer)) break;
    const double loss = losses.at(point->k_per_layer);
    consider(point->k_per_layer, loss);
    if (loss <= limit) break;
    target = std::min(target, sensitivities.base_loss + point->loss) - (loss - limit);
  }
  const Allowed cheaper = [&](const std::vector<int>& k) {
    return costs.total(k) < costs.total(best.k_per_layer) * (1 + kRounding);
  };
  return refine(best, sensitivities, costs, cheaper, better, losses);
}

}  // namespace mmoe
