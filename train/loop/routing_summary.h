#pragma once
// What a step's routing comes to: the numbers that logs write.

#include <cstdint>
#include <optional>

#include "train/loop/trainer.h"

namespace mmoe {

struct RoutingSummary {
  int64_t min_tokens = 0, max_tokens = 0;  // of an expert
  double tokens_cv = 0;      // standard deviation of the tokens per expert (of all experts, so over E) by their mean
  int64_t dead_experts = 0;  // that no token selected in the whole step
};
RoutingSummary summarize(const RoutingMetrics& routing);

// Mean over micro-batches and MoE layers; nothing for dense models.
std::optional<double> mean_k(const StepResult& result);

}  // namespace mmoe
