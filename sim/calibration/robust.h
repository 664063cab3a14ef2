#pragma once
// The loss of the fits.

#include <cmath>

namespace mmoe {

inline constexpr double kOutlier = 3;  // residuals beyond so many standard deviations count linearly

// Squared, this is the pseudo-Huber loss: quadratic near 0, linear beyond kOutlier.
inline double robust(double residual) {
  const double ratio = residual / kOutlier;
  return std::copysign(kOutlier * std::sqrt(2 * (std::sqrt(1 + ratio * ratio) - 1)), residual);
}

}  // namespace mmoe
