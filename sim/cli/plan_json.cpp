#include "sim/cli/plan_json.h"

#include "sim/cli/calibration_flag.h"
#include "sim/plan/cluster_plan.h"

namespace mmoe {

nlohmann::json plan_json(const Flags& flags, const Job& job) {
  if (!is_cluster_job(job)) return to_json(simulate(job, calibration_for(flags, job)));
  ClusterPlan plan = simulate_cluster(job, framework_for(flags, job));
  add_remedies(plan);
  return to_json(plan);
}

}  // namespace mmoe
