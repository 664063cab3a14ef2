#pragma once
// What memory that a budget frees can be spent on, and how much faster a step becomes.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "sim/calibration/calibration.h"
#include "sim/config/job.h"
#include "sim/elastic/budget_plan.h"
#include "sim/throughput/throughput.h"

namespace mmoe {

// Changes of one key that spend memory for speed: larger micro-batches, less recomputation. Not all need be valid jobs.
std::vector<Overrides> spending_changes(const Job& job);
// "--training.micro_batch_size 2".
std::string flag_text(const Overrides& change);

// One change on one device, within the memory that the unbudgeted job needs, or the limit.
struct DeviceMemoryUse {
  std::string change;
  TunedBudget budget;  // the loosest bound where none is needed
  bool budget_needed = false;
  Throughput throughput;
  double gain = 0;  // tokens/s over the unbudgeted job's, less 1
};

struct DeviceBudgetSpeed {
  Throughput with, without;           // the budget
  std::vector<Summary> front;         // seconds of a step under each budget of the plan's front
  std::vector<DeviceMemoryUse> uses;  // faster than the unbudgeted job, the fastest first
};

// `plan`: of the job on one device, by the same calibration. Memory is that of the plan's goal.
DeviceBudgetSpeed device_budget_speed(const BudgetPlan& plan, const Calibration& calibration);

// Adds `throughput` and `without.throughput`, each {tokens_per_second_per_device, step_seconds}, `front[].step_seconds`
// and `uses_of_freed_memory[]` to the keys of `mmoe budget`.
void add_speed(nlohmann::json& json, const BudgetPlan& plan, const DeviceBudgetSpeed& speed);

}  // namespace mmoe
