#include "train/loop/routing_summary.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mmoe {
namespace {

TEST(RoutingSummary, ByHand) {
  RoutingMetrics routing;
  routing.tokens_per_expert = {0, 6, 2, 0};  // mean 2, squares 4 + 16 + 0 + 4
  const RoutingSummary summary = summarize(routing);
  EXPECT_EQ(summary.min_tokens, 0);
  EXPECT_EQ(summary.max_tokens, 6);
  EXPECT_EQ(summary.dead_experts, 2);
  EXPECT_DOUBLE_EQ(summary.tokens_cv, std::sqrt(6.0) / 2);
}

TEST(RoutingSummary, BalancedExpertsDoNotVary) {
  RoutingMetrics routing;
  routing.tokens_per_expert = {5, 5, 5};
  const RoutingSummary summary = summarize(routing);
  EXPECT_EQ(summary.min_tokens, 5);
  EXPECT_EQ(summary.max_tokens, 5);
  EXPECT_EQ(summary.dead_experts, 0);
  EXPECT_EQ(summary.tokens_cv, 0);
}

TEST(MeanK, OverMicroBatchesAndLayers) {
  StepResult result;
  EXPECT_FALSE(mean_k(result).has_value());
  result.k_per_layer = {{}, {}};
  EXPECT_FALSE(mean_k(result).has_value());
  result.k_per_layer = {{1, 6}, {2.5, 3}};
  EXPECT_EQ(mean_k(result), 12.5 / 4);
}

}  // namespace
}  // namespace mmoe
