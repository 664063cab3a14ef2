#include "train/loop/routing_summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mmoe {

RoutingSummary summarize(const RoutingMetrics& routing) {
  const std::vector<int64_t>& tokens = routing.tokens_per_expert;
  RoutingSummary summary;
  summary.min_tokens = *std::min_element(tokens.begin(), tokens.end());
  summary.max_tokens = *std::max_element(tokens.begin(), tokens.end());
  summary.dead_experts = std::count(tokens.begin(), tokens.end(), 0);
  const auto experts = static_cast<double>(tokens.size());
  const double mean = static_cast<double>(std::accumulate(tokens.begin(), tokens.end(), int64_t{0})) / experts;
  double squares = 0;
  for (const int64_t count : tokens) squares += std::pow(static_cast<double>(count) - mean, 2);
  summary.tokens_cv = std::sqrt(squares / experts) / mean;
  return summary;
}

std::optional<double> mean_k(const StepResult& result) {
  double sum = 0, count = 0;
  for (const std::vector<double>& micro_batch : result.k_per_layer) {
    for (const double k : micro_batch) sum += k, ++count;
  }
  if (count == 0) return std::nullopt;
  return sum / count;
}

}  // namespace mmoe
