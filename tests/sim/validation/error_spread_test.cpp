#include "sim/validation/error_spread.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "sim/plan/fit_probability.h"

namespace mmoe {
namespace {

// Alike within a group: a group says as much as one error. Signs that differ: every row does. Two errors of 0.1 and
// 0.2, whose product is 0.8 of their mean square: 4 / (1 + 0.8).
TEST(ErrorSpread, RunsOfOneModelCountByHowMuchTheyDiffer) {
  EXPECT_DOUBLE_EQ(effective_count({{"a", 0.1}, {"a", 0.1}, {"b", -0.2}, {"b", -0.2}}), 2);
  EXPECT_DOUBLE_EQ(effective_count({{"a", 0.1}, {"a", -0.1}, {"b", 0.2}, {"b", -0.2}}), 4);
  EXPECT_DOUBLE_EQ(effective_count({{"a", 0.1}, {"a", 0.2}, {"b", 0.1}, {"b", 0.2}}), 4 / 1.8);
}

// Two errors of mean square 0.025; t of two degrees of freedom: 2.91999 (tables of Student's law, one-sided 95 %).
TEST(ErrorSpread, FewErrorsAreWidenedByStudent) {
  const double expected = std::sqrt(0.025) * 2.91999 / kNormal95;
  EXPECT_NEAR(predictive_spread({{"a", 0.1}, {"b", -0.2}}), expected, 1e-5 * expected);
  EXPECT_NEAR(predictive_spread({{"a", 0.1}, {"a", 0.1}, {"b", -0.2}, {"b", -0.2}}), expected, 1e-5 * expected);
}

// Of a hundred, the ninety-first: ceil(0.9 x 1.01 x 100).
TEST(ErrorSpread, ManyErrorsSpeakForThemselves) {
  std::vector<GroupedError> errors;
  for (int i = 1; i <= 100; ++i) errors.push_back({std::to_string(i), static_cast<double>(i % 2 == 0 ? i : -i)});
  EXPECT_DOUBLE_EQ(predictive_spread(errors), 91 / kNormal95);
}

// Intervals of normal errors hold a further one in 90 % of all cases, however few: within four standard deviations of
// the share of 20,000 trials. An order statistic holds at least as many, and at most 1 / (n + 1) more.
TEST(ErrorSpread, IntervalsHold) {
  std::mt19937_64 generator(1);
  std::normal_distribution<double> law(0, 0.07);
  for (const int count : {1, 2, 5, 18, 40}) {
    int inside = 0;
    constexpr int kTrials = 20000;
    for (int trial = 0; trial < kTrials; ++trial) {
      std::vector<GroupedError> errors;
      for (int i = 0; i < count; ++i) errors.push_back({std::to_string(i), law(generator)});
      inside += std::abs(law(generator)) <= kNormal95 * predictive_spread(errors);
    }
    const double noise = 4 * std::sqrt(0.09 / kTrials), share = inside / double(kTrials);
    EXPECT_GT(share, 0.9 - noise) << count;
    EXPECT_LT(share, 0.9 + noise + (count >= 19 ? 1.0 / (count + 1) : 0)) << count;
  }
}

}  // namespace
}  // namespace mmoe
