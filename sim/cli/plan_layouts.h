#pragma once
// mmoe plan for jobs on several devices.

#include <cstdint>
#include <iosfwd>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sim/cli/plan_request.h"
#include "sim/plan/cluster_plan.h"
#include "sim/search/layout_budgets.h"
#include "sim/search/layout_search.h"

namespace mmoe {

// A layout that was simulated in full.
struct LayoutPlan {
  ClusterPlan plan;
  double own_law_seconds = 0;  // step time at the job's own elastic law
  BudgetCost cost;
  bool needs_budget = false;
  bool on_front = false;
  // Per device, at the job's own law.
  double own_law_tokens_per_second() const {
    return plan.tokens_per_second_per_device * plan.time.step.mean() / own_law_seconds;
  }
};

// Layouts that fit by the search's closed forms, and then not by the full simulation: of the default allocator a replay
// finds holes.
struct FailedInFull {
  int64_t count = 0;
  double probability = 0;  // with which the closest of them fits
  std::optional<LayoutCandidate> closest;
};

struct LayoutPlans {
  LayoutSearchResult search;
  FailedInFull failed_in_full;                    // of the fastest, which alone are simulated in full
  std::vector<LayoutPlan> shown;                  // best first; those that need a budget stand behind the others
  std::map<std::string, int64_t> without_budget;  // layouts that no budget saves, by reason
};

// Searches every layout that the job leaves open; the best ones are simulated in full.
LayoutPlans find_layout_plans(const Job& job, const Framework& framework, const PlanRequest& request);

nlohmann::json to_json(const Job& job, const LayoutPlans& plans, const PlanRequest& request);
// Columns of what is searched only where the job says "auto" stand where it does.
void print(const Job& job, const LayoutPlans& plans, std::ostream& out);

}  // namespace mmoe
