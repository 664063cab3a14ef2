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

// The points of a front of this size that are printed: 12 at most, evenly spread, its ends among them.
std::vector<std::size_t> shown_points(std::size_t size);

ExitCode cluster_budget_command(const Flags& flags, const Job& job, const BudgetRequest& request);

}  // namespace mmoe
