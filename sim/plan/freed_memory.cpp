#include "sim/plan/freed_memory.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

nlohmann::json speed_json(const Throughput& throughput) {
  return {{"tokens_per_second_per_device", throughput.tokens_per_second_per_device},
          {"step_seconds", throughput.step_law}};
}

}  // namespace

std::vector<Overrides> spending_changes(const Job& job) {
  std::vector<Overrides> changes;
  for (const int64_t factor : {2, 4}) {
    changes.push_back({{"training.micro_batch_size", std::to_string(job.training.micro_batch_size * factor)}});
  }
  const Recompute& recompute = job.training.recompute;
  if (recompute.full || !recompute.modules.empty()) {
    changes.push_back({{"training.recompute", "none"}});
  }
  if (recompute.full) {
    changes.push_back({{"training.recompute", R"(["moe"])"}});
    changes.push_back({{"training.recompute", R"(["moe_activation"])"}});
  }
  return changes;
}

std::string flag_text(const Overrides& change) {
  const auto& [key, value] = change.front();
  return "--" + key + " " + (value.find('"') == std::string::npos ? value : "'" + value + "'");
}

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
  const nlohmann::json resolved = to_json(free);
  for (const Overrides& change : spending_changes(free)) {
    try {
      const BudgetPlan changed = plan_budget(parse_job(resolved, free.where, "/", change), certain, request);
      if (!changed.tuning.choice) continue;
      Job job = changed.job;
      if (!changed.tuning.budget_needed) job.elastic.budget.reset();
      DeviceMemoryUse use{flag_text(change), *changed.tuning.choice, changed.tuning.budget_needed,
                          predict_throughput(job, calibration), 0};
      use.gain = use.throughput.tokens_per_second_per_device / speed.without.tokens_per_second_per_device - 1;
      if (use.gain > 0) speed.uses.push_back(std::move(use));
    } catch (const ConfigError&) {  // not a valid job: no use
    }
  }
  std::sort(speed.uses.begin(), speed.uses.end(), [](const auto& a, const auto& b) { return a.gain > b.gain; });
  return speed;
}

void add_speed(nlohmann::json& json, const BudgetPlan& plan, const DeviceBudgetSpeed& speed) {
  if (plan.tuning.choice) json["throughput"] = speed_json(speed.with);
  json["without"]["throughput"] = speed_json(speed.without);
  for (size_t i = 0; i < speed.front.size(); ++i) json["front"][i]["step_seconds"] = speed.front[i];
  json["uses_of_freed_memory"] = nlohmann::json::array();
  for (const DeviceMemoryUse& use : speed.uses) {
    json["uses_of_freed_memory"].push_back(
        {{"change", use.change},
         {"budget", use.budget_needed ? budget_json(plan.job, use.budget.budget) : nlohmann::json()},
         {"kl_divergence", use.budget.kl_divergence},
         {"throughput", speed_json(use.throughput)},
         {"gain_fraction", use.gain}});
  }
}

}  // namespace mmoe
