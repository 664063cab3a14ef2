#include "sim/elastic/discrete_law.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mmoe {
namespace {

TEST(DiscreteLaw, ADieHasItsMoments) {
  const DiscreteLaw die(1, std::vector<double>(6, 1.0));
  EXPECT_DOUBLE_EQ(die.mean(), 3.5);
  EXPECT_DOUBLE_EQ(die.variance(), 35.0 / 12);
  EXPECT_DOUBLE_EQ(die.entropy(), std::log(6));
  EXPECT_EQ(die.max(), 6);
  EXPECT_EQ(die.probability(7), 0);
  EXPECT_EQ(die.quantile(0.5), 3);
  EXPECT_EQ(die.quantile(0.51), 4);
  EXPECT_EQ(die.quantile(0), 1);
  EXPECT_EQ(die.quantile(1), 6);
  EXPECT_DOUBLE_EQ(die.cdf(2), 1.0 / 3);
}

TEST(DiscreteLaw, DivergesFromWhatItDoesNotFollow) {
  const DiscreteLaw die(1, std::vector<double>(6, 1.0)), tilted(1, {1, 3});
  EXPECT_EQ(die.divergence(die), 0);
  EXPECT_DOUBLE_EQ(DiscreteLaw::certain(2).divergence(die), std::log(6));
  EXPECT_DOUBLE_EQ(tilted.divergence(die), 0.25 * std::log(1.5) + 0.75 * std::log(4.5));
  EXPECT_TRUE(std::isinf(die.divergence(tilted))) << "draws what the other never draws";
}

TEST(DiscreteLaw, SumsByConvolution) {
  const DiscreteLaw die(1, std::vector<double>(6, 1.0));
  const DiscreteLaw two = die.convolve(die);
  for (int sum = 2; sum <= 12; ++sum) EXPECT_NEAR(two.probability(sum), (6 - std::abs(sum - 7)) / 36.0, 1e-16);
  DiscreteLaw seven = die;
  for (int i = 1; i < 7; ++i) seven = seven.convolve(die);
  const DiscreteLaw power = die.sum_of(7);
  EXPECT_EQ(power.min(), 7);
  EXPECT_EQ(power.max(), 42);
  for (int sum = 7; sum <= 42; ++sum) EXPECT_NEAR(power.probability(sum), seven.probability(sum), 1e-16);
  EXPECT_EQ(die.sum_of(0).max(), 0);
}

TEST(DiscreteLaw, MaximumOfCopies) {
  const DiscreteLaw die(1, std::vector<double>(6, 1.0));
  const DiscreteLaw maximum = die.maximum(3);
  for (int v = 1; v <= 6; ++v) EXPECT_NEAR(maximum.cdf(v), std::pow(v / 6.0, 3), 1e-15);
}

TEST(DiscreteLaw, SummaryOfASum) {
  const Summary summary = DiscreteLaw(1, std::vector<double>(6, 1.0)).sum_of(2).summary();
  EXPECT_DOUBLE_EQ(summary.mean, 7);
  EXPECT_NEAR(summary.std, std::sqrt(35.0 / 6), 1e-14);
  EXPECT_EQ(summary.p50, 7);
  EXPECT_EQ(summary.p99, 12);  // P(12) = 1/36 > 0.01
  EXPECT_EQ(summary.max, 12);
}

}  // namespace
}  // namespace mmoe
