#pragma once
// mmoe budget for jobs on several devices.

#include <string>
#include <vector>

#include "sim/cli/flags.h"
#include "sim/elastic/budget_plan.h"
#include "sim/units/errors.h"

namespace mmoe {

// "at_most 49, 52": kind and bounds.
std::string budget_text(const Budget& budget);

// A front's points that are printed: 12 at most, evenly spread, its ends among them.
std::vector<TunedBudget> shown_points(const std::vector<TunedBudget>& front);

ExitCode cluster_budget_command(const Flags& flags, const Job& job, const BudgetRequest& request);

}  // namespace mmoe
