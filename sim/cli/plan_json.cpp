#include "sim/cli/plan_json.h"

#include "sim/cli/calibration_flag.h"
#include "sim/plan/cluster_plan.h"

namespace mmoe {

nlohmann::json plan_json(const Job& job, const std::string& calibration) {
  if (!is_cluster_job(job)) return to_json(simulate(job, calibration_for(calibration, job)));
  ClusterPlan plan = simulate_cluster(job, framework_for(calibration, job));
  add_remedies(plan);
  return to_json(plan);
}

nlohmann::json plan_json(const Flags& flags, const Job& job) { return plan_json(job, calibration_path(flags)); }

}  // namespace mmoe
