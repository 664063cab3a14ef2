#pragma once
// mmoe budget for jobs on several devices.

#include "sim/cli/flags.h"
#include "sim/elastic/budget_plan.h"
#include "sim/units/errors.h"

namespace mmoe {

ExitCode cluster_budget_command(const Flags& flags, const Job& job, const BudgetRequest& request);

}  // namespace mmoe
