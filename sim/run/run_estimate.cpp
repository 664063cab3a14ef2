#include "sim/run/run_estimate.h"

#include <algorithm>
#include <cmath>

#include "sim/run/checkpoint_interval.h"
#include "sim/units/errors.h"

namespace mmoe {

RunEstimate estimate_run(const RunConditions& conditions, const ClusterSpec& cluster) {
  MMOE_CHECK(conditions.tokens > 0 && conditions.tokens_per_step > 0 && conditions.step > Seconds{0} &&
             conditions.num_devices > 0)
      << conditions.tokens << " tokens, " << conditions.tokens_per_step << " a step of " << conditions.step.value
      << " s on " << conditions.num_devices << " devices";
  const auto num_devices = static_cast<double>(conditions.num_devices);
  RunEstimate run;
  run.num_steps = std::ceil(conditions.tokens / conditions.tokens_per_step);
  run.compute = conditions.step * run.num_steps;
  run.wall = run.compute;
  if (cluster.hours_between_failures > 0 && conditions.checkpoint_write > Seconds{0}) {
    FailureEstimate failures;
    failures.between_failures = mean_time_between_failures(Seconds{cluster.hours_between_failures * 3600}, num_devices);
    failures.checkpoint_interval =
        std::min(daly_checkpoint_interval(conditions.checkpoint_write, failures.between_failures), run.compute);
    run.wall = expected_wall_time(run.compute, failures.checkpoint_interval, conditions.checkpoint_write,
                                  conditions.restart, failures.between_failures);
    failures.num_failures = run.wall / failures.between_failures;
    failures.goodput_fraction = run.compute / run.wall;
    run.failures = failures;
  }
  run.device_hours = run.wall.value / 3600 * num_devices;
  if (cluster.price_per_device_hour > 0) run.cost = run.device_hours * cluster.price_per_device_hour;
  if (cluster.power_watt_per_device > 0) run.energy_kwh = run.device_hours * cluster.power_watt_per_device / 1000;
  return run;
}

}  // namespace mmoe
