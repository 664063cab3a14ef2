#include "sim/calibration/error_summary.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace mmoe {
namespace {

TEST(ErrorSummary, ByHand) {
  // Errors +10 %, -20 %, 0; the second measurement lies outside its interval.
  const ErrorSummary summary = summarize_errors({{10, 11, {9, 12}}, {10, 8, {7, 9}}, {4, 4, {3, 5}}});
  EXPECT_EQ(summary.count, 3);
  EXPECT_NEAR(summary.mean_absolute_error_fraction, 0.1, 1e-15);
  EXPECT_NEAR(summary.median_absolute_error_fraction, 0.1, 1e-15);
  EXPECT_NEAR(summary.max_absolute_error_fraction, 0.2, 1e-15);
  EXPECT_NEAR(summary.bias_fraction, -0.1 / 3, 1e-15);
  EXPECT_NEAR(summary.interval_coverage, 2.0 / 3, 1e-15);
  EXPECT_EQ(nlohmann::json(summary).at("count"), 3);
}

TEST(ErrorSummary, OfNothing) { EXPECT_EQ(summarize_errors({}).count, 0); }

TEST(ErrorSummary, Median) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(median({}), 0);
}

}  // namespace
}  // namespace mmoe
