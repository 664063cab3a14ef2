#include "sim/cli/plan_json.h"

#include "sim/cli/calibration_flag.h"
#include "sim/cli/plan_device.h"
#include "sim/cli/plan_layouts.h"
#include "sim/plan/cluster_budget.h"
#include "sim/plan/cluster_plan.h"
#include "sim/plan/device_budget.h"
#include "sim/plan/shell_word.h"

namespace mmoe {

nlohmann::json plan_json(const Job& job, const std::string& calibration) {
  const std::string flags = calibration.empty() ? "" : " --calibration " + shell_word(calibration);
  if (!is_cluster_job(job)) return to_json(simulate(job, calibration_for(calibration, job)), flags);
  ClusterPlan plan = simulate_cluster(job, framework_for(calibration, job));
  add_remedies(plan);
  return to_json(plan, flags);
}

nlohmann::json plan_json(const Flags& flags, const Job& job) { return plan_json(job, calibration_path(flags)); }

nlohmann::json budget_answer(const Job& job, const std::string& calibration, const BudgetRequest& request) {
  if (is_cluster_job(job)) return to_json(plan_cluster_budget(job, framework_for(calibration, job), request));
  const Calibration fitted = calibration_for(calibration, job);
  const BudgetPlan plan = plan_budget(job, fitted, request);
  nlohmann::json json = to_json(plan);
  add_speed(json, plan, device_budget_speed(plan, fitted));
  return json;
}

nlohmann::json plan_answer(const OpenJob& load, const std::string& calibration, const PlanRequest& request) {
  check(request);
  const Job job = load({});
  nlohmann::json answer = is_cluster_job(job)
                              ? to_json(job, find_layout_plans(job, framework_for(calibration, job), request), request)
                              : to_json(find_device_plans(job, calibration_for(calibration, job), request), request);
  if (answer["candidates"].empty())
    add_remedies(answer, job, find_plan_remedies(load, calibration, request), calibration, request);
  return answer;
}

}  // namespace mmoe
