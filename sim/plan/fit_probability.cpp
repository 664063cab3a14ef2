#include "sim/plan/fit_probability.h"

#include <cmath>

namespace mmoe {

Interval error_interval(double predicted, double spread) {
  const double factor = std::exp(kNormal95 * spread);
  return {predicted / factor, predicted * factor};
}

double fit_probability(const std::function<double(double limit)>& holds, double limit, double spread) {
  if (spread <= 0) return holds(limit);
  constexpr int kSlices = 41;
  double sum = 0;
  for (int i = 0; i < kSlices; ++i) {
    const double quantile = (i + 0.5) / kSlices;
    double low = -8, high = 8;
    for (int step = 0; step < 50; ++step) {
      const double middle = (low + high) / 2;
      (0.5 * std::erfc(-middle / std::sqrt(2.0)) < quantile ? low : high) = middle;
    }
    sum += holds(limit / std::exp(spread * low));
  }
  return sum / kSlices;
}

}  // namespace mmoe
