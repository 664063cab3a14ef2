#include "kernels/types/scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mmoe::kernels {
namespace {

float through_bf16(float value) { return static_cast<float>(bf16(value)); }

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(through_bf16(1.0f), 1.0f);
  EXPECT_EQ(through_bf16(1.0f + 0x1p-8f), 1.0f);                 // halfway: to the even 1
  EXPECT_EQ(through_bf16(1.0f + 0x1.8p-7f), 1.0f + 0x1p-6f);     // halfway: to the even 1 + 2^-6
  EXPECT_EQ(through_bf16(1.0f + 0x1.0002p-8f), 1.0f + 0x1p-7f);  // above halfway
  EXPECT_EQ(through_bf16(-1.0f - 0x1.0002p-8f), -1.0f - 0x1p-7f);
  EXPECT_EQ(through_bf16(0x1p-130f), 0x1p-130f);  // subnormal
  EXPECT_TRUE(std::signbit(through_bf16(-0.0f)));
}

TEST(BFloat16, KeepsInfinityAndNan) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(through_bf16(infinity), infinity);
  EXPECT_EQ(through_bf16(-infinity), -infinity);
  EXPECT_EQ(through_bf16(std::numeric_limits<float>::max()), infinity);
  EXPECT_TRUE(std::isnan(through_bf16(std::numeric_limits<float>::quiet_NaN())));
  uint32_t word = 0x7f800001u;  // a NaN whose set bit is rounded away
  float nan;
  std::memcpy(&nan, &word, sizeof nan);
  EXPECT_TRUE(std::isnan(through_bf16(nan)));
}

TEST(Scalar, SizesAndAccumulateTypes) {
  for (const Scalar scalar : {Scalar::kFloat64, Scalar::kFloat32, Scalar::kBFloat16}) {
    visit_scalar(scalar, [&](auto tag) {
      using T = typename decltype(tag)::type;
      EXPECT_EQ(sizeof(T), size_of(scalar));
      EXPECT_EQ(sizeof(Accumulate<T>), size_of(accumulate(scalar)));
    });
  }
  EXPECT_EQ(accumulate(Scalar::kBFloat16), Scalar::kFloat32);
}

}  // namespace
}  // namespace mmoe::kernels
