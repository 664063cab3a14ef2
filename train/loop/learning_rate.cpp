#include "train/loop/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mmoe {

double learning_rate(const TrainingConfig& training, int64_t step, int64_t total_steps) {
  constexpr double kFloor = 0.1, kDecayFraction = 0.2;
  const double peak = training.learning_rate;
  if (step <= training.warmup_steps) {
    return peak * static_cast<double>(step) / static_cast<double>(training.warmup_steps);
  }
  const auto progress = [&](double begin) {  // 0 at `begin`, 1 at the last step
    const double length = static_cast<double>(total_steps) - begin;
    return length <= 0 ? 1.0 : std::clamp((static_cast<double>(step) - begin) / length, 0.0, 1.0);
  };
  const auto warmup = static_cast<double>(training.warmup_steps);
  switch (training.schedule) {
    case LearningRateSchedule::kCosine:
      return peak * (kFloor + (1 - kFloor) * 0.5 * (1 + std::cos(std::numbers::pi * progress(warmup))));
    case LearningRateSchedule::kWsd:
      return peak *
             (1 - (1 - kFloor) * progress(std::max(warmup, (1 - kDecayFraction) * static_cast<double>(total_steps))));
    default:
      return peak;
  }
}

}  // namespace mmoe
