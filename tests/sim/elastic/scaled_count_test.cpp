#include "sim/elastic/scaled_count.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace mmoe {
namespace {

double value(ScaledCount count) { return ratio(count, ScaledCount::of(1)); }

TEST(ScaledCount, AddsAndMultipliesLikeIntegers) {
  EXPECT_EQ(value(ScaledCount::of(0)), 0);
  EXPECT_EQ(value(ScaledCount::of(12345)), 12345);
  EXPECT_EQ(value(ScaledCount::of(1000003) * ScaledCount::of(998244353)), 1000003.0 * 998244353.0);
  EXPECT_EQ(value(ScaledCount::of(1) + ScaledCount::of(uint64_t{1} << 52)), std::ldexp(1, 52) + 1);
  EXPECT_EQ(value(ScaledCount::of(7) + ScaledCount{}), 7);
  EXPECT_TRUE((ScaledCount::of(7) * ScaledCount{}).is_zero());
  // Both mantissas have their top bit, so this sum carries.
  EXPECT_EQ(value(ScaledCount::of(3) + ScaledCount::of(3)), 6);
}

// The ratio is met to 2^-30, and the mean's slope in log r is the variance, at most (n - 1)^2 / 4.
TEST(TiltedWeights, HaveTheirMean) {
  for (const int n : {2, 6, 64}) {
    for (const double share : {0.02, 0.3, 0.5, 0.77, 0.98}) {
      const double wanted = share * (n - 1);
      const std::vector<ScaledCount> weights = tilted_weights(n, wanted);
      ASSERT_EQ(weights.size(), static_cast<size_t>(n));
      double total = 0, moment = 0;
      for (int j = 0; j < n; ++j) {
        const double weight = ratio(weights[static_cast<size_t>(j)], weights.back());
        total += weight;
        moment += j * weight;
      }
      const double r = ratio(weights[1], weights[0]);
      EXPECT_NEAR(moment / total, wanted, (n - 1) * (n - 1) / 4.0 * 0x1p-30 / r + 1e-12) << n << ' ' << share;
      for (int j = 2; j < n; ++j) {  // a geometric sequence; each product is cut by less than 2^-62
        EXPECT_NEAR(ratio(weights[static_cast<size_t>(j)], weights[static_cast<size_t>(j) - 1]), r, r * 1e-15);
      }
    }
  }
}

TEST(ScaledCount, OrdersByValue) {
  EXPECT_LT(ScaledCount::of(3), ScaledCount::of(4));
  EXPECT_LT(ScaledCount{}, ScaledCount::of(1));
  EXPECT_FALSE(ScaledCount::of(4) < ScaledCount::of(4));
  EXPECT_FALSE(ScaledCount::of(1) < ScaledCount{});
  EXPECT_FALSE(ScaledCount{} < ScaledCount{});
}

TEST(ScaledCount, GoesFarBeyondDouble) {
  ScaledCount product = ScaledCount::of(1);
  for (int i = 0; i < 1000; ++i) product = product * ScaledCount::of(64);
  EXPECT_DOUBLE_EQ(log(product), 1000 * std::log(64));
  EXPECT_EQ(ratio(product * ScaledCount::of(3), product), 3);
}

TEST(ScaledCount, PowerAgreesWithPow) {
  for (const uint32_t base : {1u, 2u, 3u, 6u, 7u, 64u, 1000u}) {
    for (const double exponent : {0.0, 1e-9, 0.1, 1.0 / 3, 0.5, 1.0, 2.0, 3.7, 25.0}) {
      // pow is right to an ulp (1.1e-16) and power() to 2^-54 max(1, exponent).
      const double tolerance = 2.3e-16 + 5.6e-17 * std::max(1.0, exponent);
      EXPECT_NEAR(value(power(base, exponent)) / std::pow(base, exponent), 1, tolerance) << base << "^" << exponent;
    }
  }
  EXPECT_NEAR(log(power(64, 5000)), 5000 * std::log(64), 1e-11);
  EXPECT_EQ(log(power(2, 1e300)), log(power(2, 1048576)));
}

// The sampler's draws on every machine rest on these bits: they come from integer arithmetic alone.
TEST(ScaledCount, PowerHasFixedBits) {
  const ScaledCount root2 = power(2, 0.5);
  EXPECT_EQ(root2.mantissa, 0xB504F333F9DE6484u);  // sqrt(2) * 2^63, rounded down
  EXPECT_EQ(root2.exponent, -63);
}

TEST(Pick, InvertsTheCumulativeLaw) {
  const ScaledCount weights[] = {ScaledCount::of(1), {}, ScaledCount::of(2), ScaledCount::of(1)};
  const uint64_t quarter = uint64_t{1} << 62;
  EXPECT_EQ(pick(weights, 4, 0), 0);
  EXPECT_EQ(pick(weights, 4, quarter - 1), 0);
  EXPECT_EQ(pick(weights, 4, quarter), 2);
  EXPECT_EQ(pick(weights, 4, 3 * quarter - 1), 2);
  EXPECT_EQ(pick(weights, 4, 3 * quarter), 3);
  EXPECT_EQ(pick(weights, 4, ~uint64_t{0}), 3);
}

}  // namespace
}  // namespace mmoe
