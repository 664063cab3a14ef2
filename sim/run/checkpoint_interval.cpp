#include "sim/run/checkpoint_interval.h"

#include <cmath>

namespace mmoe {

Seconds mean_time_between_failures(Seconds of_one_device, double num_devices) { return of_one_device / num_devices; }

Seconds young_checkpoint_interval(Seconds checkpoint_write, Seconds between_failures) {
  return Seconds{std::sqrt(2 * checkpoint_write.value * between_failures.value)};
}

Seconds daly_checkpoint_interval(Seconds checkpoint_write, Seconds between_failures) {
  if (checkpoint_write >= 2 * between_failures) return between_failures;
  const double e = std::sqrt(checkpoint_write / (2 * between_failures));
  return young_checkpoint_interval(checkpoint_write, between_failures) * (1 + e / 3 + e * e / 9) - checkpoint_write;
}

Seconds expected_wall_time(Seconds work, Seconds interval, Seconds checkpoint_write, Seconds restart,
                           Seconds between_failures) {
  const Seconds M = between_failures;
  return M * (std::exp(restart / M) * std::expm1((interval + checkpoint_write) / M) * (work / interval));
}

}  // namespace mmoe
