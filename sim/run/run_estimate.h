#pragma once
// A whole training run: days, money, energy, and what failures add to them.

#include <cstdint>
#include <optional>

#include "sim/config/hardware_config.h"
#include "sim/units/units.h"

namespace mmoe {

struct RunConditions {
  double tokens = 0;           // of the whole run, > 0
  double tokens_per_step = 0;  // global batch size times sequence length, > 0
  Seconds step;                // wall time of a step without failures or checkpoints, > 0
  int64_t num_devices = 1;
  Seconds checkpoint_write;  // that training waits for; 0: not known
  Seconds restart;           // from a failure to the first step after it: detection, scheduling, reading the checkpoint
};

// What is lost to failures at the best checkpoint interval.
struct FailureEstimate {
  Seconds between_failures;     // of the whole job
  Seconds checkpoint_interval;  // Daly's optimum, at most the whole run
  double num_failures = 0;      // expected over the run
  double goodput_fraction = 0;  // time without failures and checkpoints over expected wall time
};

// Empty where the cluster or the conditions do not say what is needed.
struct RunEstimate {
  double num_steps = 0;
  Seconds compute;  // steps alone
  Seconds wall;     // expected, with failures and checkpoints where those are known; else `compute`
  double device_hours = 0;
  std::optional<double> cost;        // US dollars
  std::optional<double> energy_kwh;  // every device at the cluster's power all the time
  std::optional<FailureEstimate> failures;

  double days() const { return wall.value / 86400; }
};

// From the cluster: price, power and hours between failures of one device. The wall time is infinite where failures
// come too often for the run ever to end.
RunEstimate estimate_run(const RunConditions& conditions, const ClusterSpec& cluster);

}  // namespace mmoe
