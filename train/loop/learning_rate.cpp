#include "train/loop/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mmoe {

double learning_rate(const TrainingConfig& training, int64_t step, int64_t total_steps) {
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
      return peak * (kLearningRateFloor +
                     (1 - kLearningRateFloor) * 0.5 * (1 + std::cos(std::numbers::pi * progress(warmup))));
    case LearningRateSchedule::kWsd:
      return peak * (1 - (1 - kLearningRateFloor) *
                             progress(std::max(warmup, (1 - kWsdDecayFraction) * static_cast<double>(total_steps))));
    default:
      return peak;
  }
}

}  // namespace mmoe
