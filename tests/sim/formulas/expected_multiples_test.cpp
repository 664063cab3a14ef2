#include "sim/formulas/expected_multiples.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mmoe {
namespace {

TEST(ExpectedMultiples, LimitsAreRight) {
  EXPECT_EQ(expected_multiples(0, 64), 0);
  EXPECT_NEAR(expected_multiples(1e-6, 64), 1e-6, 1e-11);  // one multiple for the rare expert that has a row
  EXPECT_DOUBLE_EQ(expected_multiples(6400, 64), 100 + 63.0 / 128);
  EXPECT_DOUBLE_EQ(expected_multiples(100, 1), 100);
}

// Uniform loads over a range of multiples, counted one by one: the mean of ceil(x / m).
TEST(ExpectedMultiples, EqualsTheCountOverUniformLoads) {
  for (const int multiple : {4, 64, 256}) {
    double sum = 0, rows = 0;
    const int range = 64 * multiple;
    for (int x = 1; x <= range; ++x) {
      sum += std::ceil(static_cast<double>(x) / multiple);
      rows += x;
    }
    EXPECT_NEAR(expected_multiples(rows / range, multiple), sum / range, 1e-12);
  }
}

TEST(ExpectedMultiples, NeverFalls) {
  double last = 0;
  for (double rows = 0; rows < 1000; rows += 0.25) {
    const double now = expected_multiples(rows, 64);
    EXPECT_GE(now, last) << rows;
    last = now;
  }
}

}  // namespace
}  // namespace mmoe
