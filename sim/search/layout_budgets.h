#pragma once
// Activation budgets for layouts of a cluster job that do not fit at the job's own elastic law.

#include <map>
#include <string>
#include <vector>

#include "sim/plan/cluster_plan.h"
#include "sim/search/layout_search.h"

namespace mmoe {

// How much of the draw a searched budget must keep.
struct BudgetLimits {
  double least_sum_fraction = 0.85;  // E[sum of k] over that of the job's own law
  double most_kl_per_layer = 0.05;   // nats, of any layer's marginal from the job's own law
};

// What a budget keeps of the draw.
struct BudgetCost {
  double expected_sum = 0;           // of k, over all MoE layers of one micro-batch
  double expected_sum_fraction = 1;  // over that of the law without it
  double kl_per_layer = 0;           // nats, the largest of all layers
};
BudgetCost budget_cost(const Job& job);

struct BudgetedLayout {
  LayoutCandidate layout;
  ClusterPlan plan;            // with the budget
  double own_law_seconds = 0;  // step time at the job's own law, by which layouts are ranked
  BudgetCost cost;
};

struct BudgetedLayouts {
  std::vector<BudgetedLayout> layouts;      // fastest at the job's own law first
  std::map<std::string, int64_t> rejected;  // by reason
};

// Layouts that fit with the loosest `at_most` budget that lets them (one bound a pipeline rank, in proportion to its
// layers), within `limits`; at most options.top of them. The job must draw k and have no budget of its own. Throws
// ConfigError.
BudgetedLayouts search_layout_budgets(const Job& job, const Framework& framework, const LayoutSearchOptions& options,
                                      const BudgetLimits& limits);

}  // namespace mmoe
