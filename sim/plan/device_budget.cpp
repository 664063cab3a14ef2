#include "sim/plan/device_budget.h"

#include <nlohmann/json.hpp>

namespace mmoe {
namespace {

nlohmann::json speed_json(const Throughput& throughput) {
  return {{"tokens_per_second_per_device", throughput.tokens_per_second_per_device},
          {"step_seconds", throughput.step_law}};
}

}  // namespace

DeviceBudgetSpeed device_budget_speed(const BudgetPlan& plan, const Calibration& calibration) {
  Job free = plan.job;
  free.elastic.budget.reset();
  DeviceBudgetSpeed speed;
  speed.without = predict_throughput(free, calibration);
  speed.with =
      plan.tuning.choice && plan.tuning.budget_needed ? predict_throughput(plan.job, calibration) : speed.without;
  const StepTimeModel model(free, calibration);
  for (const TunedBudget& point : plan.tuning.front) {
    Job bounded = free;
    bounded.elastic.budget = point.budget;
    speed.front.push_back(step_seconds_law(bounded, model));
  }
  // The plan's limit is already lowered by the memory model's error, and its confidence covers the draws alone.
  Calibration certain = calibration;
  certain.peak_bytes_spread = 0;
  BudgetRequest request;
  request.memory_limit = Bytes{plan.goal.memory_limit ? plan.tuning.limit : plan.tuning.free_peak};
  request.confidence = plan.goal.confidence;
  request.steps = plan.steps;
  const auto tuning_of = [&](const Job& changed) { return plan_budget(changed, certain, request).tuning; };
  const auto speed_of = [&](Job changed, const BudgetTuning& tuning) {
    changed.elastic.budget.reset();
    if (tuning.budget_needed) changed.elastic.budget = tuning.choice->budget;
    return predict_throughput(changed, calibration);
  };
  speed.uses = uses_of_freed_memory(free, speed.without, tuning_of, speed_of);
  return speed;
}

void add_speed(nlohmann::json& json, const BudgetPlan& plan, const DeviceBudgetSpeed& speed) {
  if (plan.tuning.choice) json["throughput"] = speed_json(speed.with);
  json["without"]["throughput"] = speed_json(speed.without);
  for (size_t i = 0; i < speed.front.size(); ++i) json["front"][i]["step_seconds"] = speed.front[i];
  json["uses_of_freed_memory"] = uses_json(plan.job, speed.uses, speed_json);
}

}  // namespace mmoe
