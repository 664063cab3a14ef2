#pragma once
// How often to write checkpoints when devices fail, and what failures cost.
//
// All formulas take failures as a Poisson process: the times between failures of the whole job are exponential.

#include "sim/units/units.h"

namespace mmoe {

// Mean time between failures of a job on num_devices devices, each of which failing ends it: that of one device over
// their number (the minimum of independent exponential times).
Seconds mean_time_between_failures(Seconds of_one_device, double num_devices);

// Work between two checkpoints that loses the least time, to first order in write / failures:
//   tau = sqrt(2 delta M)
// with delta the time to write a checkpoint, M the mean time between failures.
// Source: Young 1974, A first order approximation to the optimum checkpoint interval, CACM 17(9).
Seconds young_checkpoint_interval(Seconds checkpoint_write, Seconds between_failures);

// The same to higher order:
//   tau = sqrt(2 delta M) (1 + e / 3 + e^2 / 9) - delta,  e = sqrt(delta / (2 M)),  for delta < 2 M;  tau = M otherwise
// Source: Daly 2006, A higher order estimate of the optimum checkpoint interval for restart dumps, FGCS 22(3), eq. 37.
Seconds daly_checkpoint_interval(Seconds checkpoint_write, Seconds between_failures);

// Expected wall time of `work` seconds of computation with a checkpoint after every `interval` of it:
//   T = M exp(R / M) (exp((tau + delta) / M) - 1) work / tau
// with R the restart time. Failures may also strike while a checkpoint is written and during restarts.
// Source: Daly 2006, eq. 20. Every interval ends with a checkpoint, the last one too. Infinite where an interval is so
// long against M that it practically never ends.
Seconds expected_wall_time(Seconds work, Seconds interval, Seconds checkpoint_write, Seconds restart,
                           Seconds between_failures);

}  // namespace mmoe
