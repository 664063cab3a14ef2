#include "sim/search/layout_budgets.h"

#include <algorithm>
#include <cmath>

#include "sim/elastic/elastic_law.h"
#include "sim/plan/step_draws.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kMostBounds = 24;

ElasticLaw law_of(const Job& job) { return ElasticLaw(job.elastic, static_cast<int>(job.model.num_moe_layers())); }

Job with_bound(Job job, int64_t sum_k) {
  Budget budget;
  budget.groups = {job.model.num_moe_layers()};
  budget.sum_k = {sum_k};
  job.elastic.budget = budget;
  job.elastic.budget_is_auto = false;
  return job;
}

enum class Keeps { kEnough, kTooFewExperts, kTooLittleDiversity };

Keeps check(const BudgetCost& cost, const BudgetLimits& limits) {
  if (cost.expected_sum_fraction < limits.least_sum_fraction) return Keeps::kTooFewExperts;
  return cost.kl_per_layer > limits.most_kl_per_layer ? Keeps::kTooLittleDiversity : Keeps::kEnough;
}

// Bounds over the whole model that are within the limits, loosest first, evenly spread.
std::vector<int64_t> bounds(const Job& job, const BudgetLimits& limits) {
  const int64_t most = job.model.num_moe_layers() * job.elastic.k_max - 1;
  const auto least = static_cast<int64_t>(std::ceil(law_of(job).sum().mean() * limits.least_sum_fraction));
  const int64_t step = std::max<int64_t>(1, (most - least) / kMostBounds);
  std::vector<int64_t> result;
  for (int64_t bound = most; bound >= least; bound -= step) {
    if (check(budget_cost(with_bound(job, bound)), limits) != Keeps::kEnough) break;
    result.push_back(bound);
  }
  return result;
}

}  // namespace

BudgetCost budget_cost(const Job& job) {
  const ElasticLaw with = law_of(job), without = with.without_budget();
  BudgetCost cost;
  cost.expected_sum = with.sum().mean();
  cost.expected_sum_fraction = cost.expected_sum / without.sum().mean();
  const std::vector<double> by_layer = with.kl_divergence_by_layer();
  cost.kl_per_layer = *std::max_element(by_layer.begin(), by_layer.end());
  return cost;
}

BudgetedLayouts search_layout_budgets(const Job& job, const Framework& framework, const LayoutSearchOptions& options,
                                      const BudgetLimits& limits) {
  if (!k_varies(job)) {
    throw ConfigError(job.where + ": --search-budget needs a k that is drawn (elastic.k_min below k_max)");
  }
  if (job.elastic.budget) {
    throw ConfigError(job.where +
                      ": elastic.budget is given, so it stays; leave it out or set it to \"auto\" to search it");
  }
  BudgetedLayouts result;
  const std::vector<int64_t> allowed = bounds(job, limits);
  if (allowed.empty()) {
    ++result.rejected["no bound keeps the floor on E[sum of k] and the ceiling on a layer's KL"];
    return result;
  }
  // What fits under the tightest bound may fit under a looser one; many of the fastest need none.
  LayoutSearchOptions wide = options;
  wide.top *= 4;
  const LayoutSearchResult tight = search_layouts(with_bound(job, allowed.back()), framework, wide);
  for (const LayoutCandidate& candidate : tight.candidates) {
    if (static_cast<int64_t>(result.layouts.size()) == options.top) break;
    const ClusterPlan own = simulate_cluster(with_layout(job, candidate), framework);
    if (own.fit.probability >= options.confidence) continue;  // needs no budget
    std::string reason = "does not fit under the tightest budget allowed";
    for (const int64_t bound : allowed) {
      const Job bounded = with_layout(with_bound(job, bound), candidate);
      const BudgetCost cost = budget_cost(bounded);
      const Keeps keeps = check(cost, limits);
      if (keeps != Keeps::kEnough) {  // tighter ones keep less
        reason = keeps == Keeps::kTooFewExperts ? "the budget that fits breaks the floor on E[sum of k]"
                                                : "the budget that fits breaks the ceiling on a layer's KL";
        break;
      }
      ClusterPlan plan = simulate_cluster(bounded, framework);
      if (plan.fit.probability < options.confidence) continue;
      result.layouts.push_back({candidate, std::move(plan), own.time.step.mean(), cost});
      reason.clear();
      break;
    }
    if (!reason.empty()) ++result.rejected[reason];
  }
  std::stable_sort(result.layouts.begin(), result.layouts.end(), [](const BudgetedLayout& a, const BudgetedLayout& b) {
    return a.own_law_seconds < b.own_law_seconds;
  });
  return result;
}

}  // namespace mmoe
