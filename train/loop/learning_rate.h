#pragma once
// The learning rate of each step.

#include <cstdint>

#include "sim/config/training_config.h"

namespace mmoe {

// Linear warm-up to training.learning_rate over warmup_steps, then: cosine to a tenth of it at the last step; WSD
// (warmup-stable-decay, Hu et al. 2024, arXiv:2404.06395): constant, then linear to a tenth over the last fifth of the
// run; or constant. step counts from 1 to total_steps.
double learning_rate(const TrainingConfig& training, int64_t step, int64_t total_steps);

}  // namespace mmoe
