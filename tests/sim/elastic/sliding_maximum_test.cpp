#include "sim/elastic/sliding_maximum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

namespace mmoe {
namespace {

// P(some window passes), over all values.
double enumerated_tail(const DiscreteLaw& law, int width, int count, int64_t bound) {
  double passed = 0;
  std::vector<int64_t> values;
  const std::function<void(double)> descend = [&](double p) {
    if (static_cast<int>(values.size()) == count) {
      for (int i = 0; i + width <= count; ++i) {
        int64_t sum = 0;
        for (int j = i; j < i + width; ++j) sum += values[static_cast<size_t>(j)];
        if (sum > bound) {
          passed += p;
          return;
        }
      }
      return;
    }
    for (int64_t v = law.min(); v <= law.max(); ++v) {
      values.push_back(v);
      descend(p * law.probability(v));
      values.pop_back();
    }
  };
  descend(1);
  return passed;
}

TEST(SlidingMaximum, ExactWhereStatesAreFew) {
  const DiscreteLaw law(2, {0.3, 0.2, 0.1, 0.4});
  for (const int width : {1, 2, 3, 4}) {
    for (int64_t bound = 2 * width - 1; bound <= 5 * width; ++bound) {
      const TailProbability tail = sliding_maximum_tail(law, width, 6, bound);
      EXPECT_EQ(tail.standard_error, 0);
      EXPECT_NEAR(tail.value, enumerated_tail(law, width, 6, bound), 1e-14) << width << ", " << bound;
    }
  }
}

// The same law spread out 40-fold has the same probabilities, and too many states for the exact way.
TEST(SlidingMaximum, SamplesAgreeWithTheExactLaw) {
  const DiscreteLaw coarse = DiscreteLaw(1, std::vector<double>(6, 1.0)).sum_of(2);  // 11 values
  std::vector<double> spread(static_cast<size_t>(coarse.max() - coarse.min()) * 40 + 1, 0.0);
  for (int64_t v = coarse.min(); v <= coarse.max(); ++v) {
    spread[static_cast<size_t>(v - coarse.min()) * 40] = coarse.probability(v);
  }
  const DiscreteLaw fine(coarse.min() * 40, std::move(spread));
  for (const int64_t bound : {24, 27, 30, 33}) {
    const TailProbability exact = sliding_maximum_tail(coarse, 3, 40, bound);
    const TailProbability sampled = sliding_maximum_tail(fine, 3, 40, bound * 40, 20000, 7);
    ASSERT_EQ(exact.standard_error, 0);
    ASSERT_GT(sampled.standard_error, 0);
    // Five standard errors: a false alarm of 6e-7 each, with a fixed seed.
    EXPECT_NEAR(sampled.value, exact.value, 5 * sampled.standard_error) << bound;
    EXPECT_LT(sampled.standard_error, 0.02 * exact.value) << bound;
  }
}

TEST(SlidingMaximum, LiesBetweenOneWindowAndAllOfThem) {
  const DiscreteLaw law = DiscreteLaw(1, std::vector<double>(6, 1.0)).sum_of(14);
  const int64_t width = 4, count = 64;
  const DiscreteLaw window = law.sum_of(width);
  for (const int64_t bound : {230, 250, 270, 300}) {
    double one = 0;
    for (int64_t v = window.max(); v > bound; --v) one += window.probability(v);
    const TailProbability tail = sliding_maximum_tail(law, width, count, bound);
    EXPECT_GE(tail.value * (1 + 1e-9), one) << bound;
    EXPECT_LE(tail.value, 61 * one) << bound;
    // Independent windows bound it: sums of independent draws are associated.
    EXPECT_LE(tail.value - 5 * tail.standard_error, -std::expm1(61 * std::log1p(-one))) << bound;
  }
}

TEST(SlidingMaximum, CertainOutcomes) {
  const DiscreteLaw law = DiscreteLaw(1, std::vector<double>(6, 1.0)).sum_of(14);
  EXPECT_EQ(sliding_maximum_tail(law, 8, 64, 8 * 84).value, 0);
  EXPECT_EQ(sliding_maximum_tail(law, 8, 64, 8 * 14 - 1).value, 1);
  EXPECT_EQ(sliding_maximum_tail(law, 80, 4, 4 * 84).value, 0);
}

}  // namespace
}  // namespace mmoe
