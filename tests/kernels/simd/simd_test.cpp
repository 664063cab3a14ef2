#include "kernels/simd/simd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mmoe::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(FastExp, IsWithinTwoUlpOfTheLibrary) {
  for (double x = -86.89; x < 88.72; x += 0.000937) {
    const float argument = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(argument));
    ASSERT_NEAR(fast_exp(argument), exact, exact * 2 * 0x1p-23) << x;
  }
  EXPECT_EQ(fast_exp(0.0f), 1.0f);
}

TEST(FastExp, EndsOfTheRange) {
  EXPECT_EQ(fast_exp(-kInfinity), 0.0f);
  EXPECT_EQ(fast_exp(-1e30f), 0.0f);
  EXPECT_EQ(fast_exp(-88.0f), 0.0f);
  EXPECT_EQ(fast_exp(89.0f), kInfinity);
  EXPECT_EQ(fast_exp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(fast_exp(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_LT(fast_exp(88.72f), kInfinity);
}

TEST(Sigmoid, EndsOfTheRange) {
  EXPECT_EQ(sigmoid(0.0f), 0.5f);
  EXPECT_EQ(sigmoid(200.0f), 1.0f);
  EXPECT_EQ(sigmoid(-200.0f), 0.0f);
  EXPECT_TRUE(std::isnan(sigmoid(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace mmoe::kernels
