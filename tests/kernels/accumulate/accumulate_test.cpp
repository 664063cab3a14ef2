#include "kernels/accumulate/accumulate.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"

namespace mmoe::kernels {
namespace {

constexpr Scalar kScalars[] = {Scalar::kFloat64, Scalar::kFloat32, Scalar::kBFloat16};

TEST(AccumulateReference, HandComputed) {
  const Array values = Array::of(Scalar::kBFloat16, {1, -2, 0.5});
  Array sums = Array::of(Scalar::kFloat32, {10, 0.125, 1e-3});
  accumulate_values_reference(
      {.scalar = Scalar::kBFloat16, .values = values.data(), .sums = sums.data(), .num_values = 3});
  EXPECT_TRUE(sums == Array::of(Scalar::kFloat32, {11, -1.875, 0.5 + 1e-3f}));
  accumulate_values_reference(
      {.scalar = Scalar::kBFloat16, .values = values.data(), .sums = sums.data(), .num_values = 3, .begins = true});
  EXPECT_TRUE(sums == Array::of(Scalar::kFloat32, {1, -2, 0.5}));
}

TEST(AccumulateCpu, HasTheBitsOfTheReference) {
  for (const Scalar scalar : kScalars) {
    for (const int64_t size : {0, 1, 15, 64, 1029, 40000}) {
      for (const bool begins : {false, true}) {
        const Array values = Array::normal(scalar, size, 1);
        Array want = Array::normal(accumulate(scalar), size, 2), got = want;
        AccumulateValues args{.scalar = scalar, .values = values.data(), .num_values = size, .begins = begins};
        args.sums = want.data();
        accumulate_values_reference(args);
        args.sums = got.data();
        accumulate_values_cpu(args);
        EXPECT_TRUE(got == want) << size << ' ' << begins;
      }
    }
  }
}

TEST(AccumulateCpu, PropagatesNanAndInfinity) {
  Array values(Scalar::kBFloat16, 3, 1), sums(Scalar::kFloat32, 3);
  values.set(1, std::numeric_limits<double>::quiet_NaN());
  values.set(2, std::numeric_limits<double>::infinity());
  accumulate_values_cpu({.scalar = Scalar::kBFloat16, .values = values.data(), .sums = sums.data(), .num_values = 3});
  EXPECT_EQ(sums.at(0), 1);
  EXPECT_TRUE(std::isnan(sums.at(1)) && std::isinf(sums.at(2)));
}

TEST(AccumulateCpu, ASumThatBeginsForgetsNan) {
  const Array values(Scalar::kBFloat16, 3, 1);
  Array sums(Scalar::kFloat32, 3, std::numeric_limits<double>::quiet_NaN());
  accumulate_values_cpu(
      {.scalar = Scalar::kBFloat16, .values = values.data(), .sums = sums.data(), .num_values = 3, .begins = true});
  EXPECT_TRUE(sums == Array(Scalar::kFloat32, 3, 1));
}

TEST(AccumulateCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    const Array values = Array::normal(Scalar::kBFloat16, 50000, 1);
    Array sums = Array::normal(Scalar::kFloat32, 50000, 2);
    accumulate_values_cpu(
        {.scalar = Scalar::kBFloat16, .values = values.data(), .sums = sums.data(), .num_values = 50000});
    return std::vector<Array>{sums};
  });
}

}  // namespace
}  // namespace mmoe::kernels
