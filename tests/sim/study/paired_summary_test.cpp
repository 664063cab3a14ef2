#include "sim/study/paired_summary.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mmoe {
namespace {

// Differences 1, 2, 3: mean 2, deviation 1, standard error 1 / sqrt 3. Student's t with two degrees of freedom, from
// printed tables (three decimals): t_0.975 = 4.303, t_0.95 = 2.920, t_0.8 = 1.061.
TEST(PairedSummary, ThreeDifferencesByHand) {
  const PairedSummary summary = paired_summary({1, 2, 3});
  const double error = 1 / std::sqrt(3.0), printed = 0.0005 * error;
  EXPECT_EQ(summary.count, 3);
  EXPECT_DOUBLE_EQ(summary.mean, 2);
  EXPECT_DOUBLE_EQ(summary.std, 1);
  EXPECT_NEAR(summary.high, 2 + 4.303 * error, printed);
  EXPECT_NEAR(summary.low, 2 - 4.303 * error, printed);
  EXPECT_NEAR(summary.upper_bound, 2 + 2.920 * error, printed);
  EXPECT_NEAR(summary.lower_bound, 2 - 2.920 * error, printed);
  EXPECT_NEAR(summary.smallest_resolvable, (2.920 + 1.061) * error, 2 * printed);
}

TEST(PairedSummary, OneDifferenceBoundsNothing) {
  const PairedSummary summary = paired_summary({0.5});
  EXPECT_EQ(summary.mean, 0.5);
  EXPECT_TRUE(std::isinf(summary.upper_bound) && std::isinf(summary.low));
  EXPECT_EQ(competitiveness(summary, 1), Competitiveness::kUnresolved);
}

TEST(Competitiveness, IsDecidedByTheBoundsAgainstTheMargin) {
  EXPECT_EQ(competitiveness(paired_summary({0.001, 0.002, 0.003}), 0.02), Competitiveness::kCompetitive);
  EXPECT_EQ(competitiveness(paired_summary({0.051, 0.052, 0.053}), 0.02), Competitiveness::kWorse);
  EXPECT_EQ(competitiveness(paired_summary({-0.1, 0.002, 0.1}), 0.02), Competitiveness::kUnresolved);
  EXPECT_EQ(competitiveness(paired_summary({0, 0, 0}), 0.02), Competitiveness::kCompetitive);
}

}  // namespace
}  // namespace mmoe
