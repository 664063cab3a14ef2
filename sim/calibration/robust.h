#pragma once
// The loss of the fits, and what their errors leave of spread.

#include <cmath>
#include <vector>

namespace mmoe {

inline constexpr double kOutlier = 3;  // residuals beyond so many standard deviations count linearly

// Squared, this is the pseudo-Huber loss: quadratic near 0, linear beyond kOutlier.
inline double robust(double residual) {
  const double ratio = residual / kOutlier;
  return std::copysign(kOutlier * std::sqrt(2 * (std::sqrt(1 + ratio * ratio) - 1)), residual);
}

inline constexpr double kLeastSpread = 0.01;  // no prediction of time is claimed better than this

// 0 of no values.
inline double root_mean_square(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return values.empty() ? 0 : std::sqrt(sum / static_cast<double>(values.size()));
}

}  // namespace mmoe
