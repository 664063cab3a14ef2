#pragma once
// The probability that memory stays below a limit: over the draws of k, and over the model's own error.

#include <functional>

#include "sim/calibration/calibration.h"

namespace mmoe {

inline constexpr double kNormal95 = 1.645;  // the normal law's 95 % quantile

// A prediction's 90 % interval where it is off by a factor exp(spread z), z standard normal.
Interval error_interval(double predicted, double spread);

// E over the model's error of `holds(limit / error)`: the error is a factor exp(spread z) on every prediction, with z
// standard normal (midpoints of 41 slices of equal probability). `holds` is the probability over the draws that no step
// of the horizon passes a limit.
double fit_probability(const std::function<double(double limit)>& holds, double limit, double spread);

}  // namespace mmoe
