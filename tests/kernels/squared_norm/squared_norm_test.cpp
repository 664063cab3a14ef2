#include "kernels/squared_norm/squared_norm.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"

namespace mmoe::kernels {
namespace {

double cpu(const Array& values) {
  return squared_norm_cpu({.scalar = values.scalar(), .values = values.data(), .num_values = values.size()});
}

TEST(SquaredNormReference, HandComputed) {
  const Array values = Array::of(Scalar::kFloat32, {1, -2, 0.5});
  EXPECT_EQ(squared_norm_reference({.scalar = Scalar::kFloat32, .values = values.data(), .num_values = 3}), 5.25);
}

// A sum of 2,048 squares has a relative error of as many roundings at most, and so has their sum in double.
TEST(SquaredNormCpu, MatchesTheReference) {
  for (const Scalar scalar : {Scalar::kFloat64, Scalar::kFloat32}) {
    for (const int64_t size : {0, 1, 15, 513, 32769, 200003}) {
      const Array values = Array::normal(scalar, size, 1);
      const double want =
          squared_norm_reference({.scalar = scalar, .values = values.data(), .num_values = values.size()});
      EXPECT_NEAR(cpu(values), want, 2049 * roundoff(scalar) * want + static_cast<double>(size) * 0x1p-53 * want)
          << size;
    }
  }
}

TEST(SquaredNormCpu, PropagatesNanAndInfinity) {
  for (const int64_t place : {0, 777, 99999}) {
    Array values = Array::normal(Scalar::kFloat32, 100000, 1);
    values.set(place, -std::numeric_limits<double>::infinity());
    EXPECT_EQ(cpu(values), std::numeric_limits<double>::infinity());
    values.set(place, std::numeric_limits<double>::quiet_NaN());
    EXPECT_TRUE(std::isnan(cpu(values)));
  }
}

TEST(SquaredNormCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    return std::vector<Array>{Array::of(Scalar::kFloat64, {cpu(Array::normal(Scalar::kFloat32, 300001, 1))})};
  });
}

}  // namespace
}  // namespace mmoe::kernels
