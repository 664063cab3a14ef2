#pragma once
// What the activation budget of a job on one device does to its step time, and what the freed memory buys.

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "sim/calibration/calibration.h"
#include "sim/elastic/budget_plan.h"
#include "sim/plan/freed_memory.h"
#include "sim/throughput/throughput.h"

namespace mmoe {

struct DeviceBudgetSpeed {
  Throughput with, without;    // the budget
  std::vector<Summary> front;  // seconds of a step under each budget of the plan's front
  // Faster than the unbudgeted job, within the memory that it needs, or the limit; the fastest first.
  std::vector<FreedMemoryUse<Throughput>> uses;
};

// `plan`: of the job on one device, by the same calibration. Memory is that of the plan's goal.
DeviceBudgetSpeed device_budget_speed(const BudgetPlan& plan, const Calibration& calibration);

// Adds `throughput` and `without.throughput`, each {tokens_per_second_per_device, step_seconds}, `front[].step_seconds`
// and `uses_of_freed_memory[]` to the keys of `mmoe budget`.
void add_speed(nlohmann::json& json, const BudgetPlan& plan, const DeviceBudgetSpeed& speed);

}  // namespace mmoe
