#include "train/loop/peak_guard.h"

#include <algorithm>
#include <cstdio>

#include "sim/units/errors.h"

namespace mmoe {

PeakGuard::PeakGuard(Bytes predicted_worst, Bytes limit) : predicted_worst_(predicted_worst), limit_(limit) {
  MMOE_CHECK(predicted_worst.value > 0 && limit.value > 0) << predicted_worst.value << " of " << limit.value;
}

std::optional<std::string> PeakGuard::observe(int64_t step, Bytes measured, Bytes predicted) {
  constexpr double kGrowth = 1.01;
  ratio_ = std::max(ratio_, measured / predicted);
  if (!passes_limit() || projected_worst() < warned_ * kGrowth) return std::nullopt;
  warned_ = projected_worst();
  char percent[32];
  std::snprintf(percent, sizeof percent, "%+.1f %%", 100 * (ratio_ - 1));
  std::string text = "step ";
  text += std::to_string(step);
  text += ": peaks up to ";
  text += percent;
  text += " of those predicted for their draws; the worst draw would take ";
  text += to_string(projected_worst());
  text += ", above the usable ";
  text += to_string(limit_);
  return text;
}

void PeakGuard::set_predicted_worst(Bytes predicted_worst) {
  predicted_worst_ = predicted_worst;
  warned_ = Bytes{};
}

}  // namespace mmoe
