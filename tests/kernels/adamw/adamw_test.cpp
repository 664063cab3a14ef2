#include "kernels/adamw/adamw.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"

namespace mmoe::kernels {
namespace {

constexpr Scalar kScalars[] = {Scalar::kFloat64, Scalar::kFloat32, Scalar::kBFloat16};

// What one update reads and writes. Second moments are 1 to 2, so that no step is large.
struct State {
  State(Scalar scalar, int64_t size)
      : master(Array::normal(accumulate(scalar), size, 1)),
        first(Array::normal(accumulate(scalar), size, 2)),
        second(accumulate(scalar), size),
        gradient(Array::normal(accumulate(scalar), size, 3)),
        value(scalar, size, 7) {
    for (int64_t i = 0; i < size; ++i) second.set(i, 1 + static_cast<double>(i % 17) / 16);
  }
  AdamW args(bool with_value = true) {
    return {.scalar = value.scalar(),
            .master = master.data(),
            .first_moment = first.data(),
            .second_moment = second.data(),
            .gradient = gradient.data(),
            .value = with_value ? value.data() : nullptr,
            .num_values = master.size(),
            .step = 3,
            .gradient_divisor = 1.5,
            .rate = 0.01,
            .beta1 = 0.9,
            .beta2 = 0.95,
            .decay = 0.1,
            .epsilon = 1e-8};
  }
  Array master, first, second, gradient, value;
};

// m = 0.9 + 0.1 * 2 = 1.1, v = 0.5 * 4 + 0.5 * 4 = 4; corrected (step 1) m = 11, v = 8.
TEST(AdamWReference, HandComputed) {
  Array master = Array::of(Scalar::kFloat64, {10}), first = Array::of(Scalar::kFloat64, {1});
  Array second = Array::of(Scalar::kFloat64, {4}), value(Scalar::kFloat64, 1);
  const Array gradient = Array::of(Scalar::kFloat64, {4});
  adamw_reference({.scalar = Scalar::kFloat64,
                   .master = master.data(),
                   .first_moment = first.data(),
                   .second_moment = second.data(),
                   .gradient = gradient.data(),
                   .value = value.data(),
                   .num_values = 1,
                   .step = 1,
                   .gradient_divisor = 2,
                   .rate = 0.5,
                   .beta1 = 0.9,
                   .beta2 = 0.5,
                   .decay = 0.2,
                   .epsilon = 1});
  EXPECT_NEAR(first.at(0), 1.1, 1e-15);
  EXPECT_EQ(second.at(0), 4);
  EXPECT_NEAR(master.at(0), 10 * 0.9 - 0.5 * 11 / (std::sqrt(8.0) + 1), 1e-14);
  EXPECT_EQ(value.at(0), master.at(0));
}

// The reference forms in fp64 what is here formed in the accumulate type, with at most five roundings of a moment's
// terms and eight of the step's, which is at most rate * m / sqrt(v); then both round the weight's two terms.
TEST(AdamWCpu, MatchesTheReference) {
  for (const Scalar scalar : kScalars) {
    for (const int64_t size : {0, 1, 15, 64, 513, 40003}) {
      for (const bool with_value : {true, false}) {
        State want(scalar, size), got(scalar, size);
        adamw_reference(want.args(with_value));
        adamw_cpu(got.args(with_value));
        const double u = roundoff(accumulate(scalar));
        const double g = largest(want.gradient), m = largest(want.first) + g;
        const double step = 0.01 * m / (1 - std::pow(0.9, 3));  // second moments stay above 0.95
        expect_close(got.first, want.first, {5 * u * m, 0}, "first moment");
        expect_close(got.second, want.second, {5 * u * (largest(want.second) + g * g), 0}, "second moment");
        expect_close(got.master, want.master, {(5 + 8) * 2 * u * step + 4 * u * largest(want.master), 0}, "master");
        for (int64_t i = 0; i < size; ++i) {
          Array rounded(scalar, 1, got.master.at(i));
          ASSERT_EQ(got.value.at(i), with_value ? rounded.at(0) : 7) << i;
        }
      }
    }
  }
}

TEST(AdamWCpu, PropagatesNanAndInfinity) {
  for (const Scalar scalar : kScalars) {
    State state(scalar, 40);
    state.gradient.set(3, std::numeric_limits<double>::quiet_NaN());
    state.gradient.set(35, std::numeric_limits<double>::infinity());
    State want = state;
    adamw_cpu(state.args());
    adamw_reference(want.args());
    for (const int64_t i : {3, 35}) EXPECT_TRUE(std::isnan(state.master.at(i)) && std::isnan(state.value.at(i))) << i;
    EXPECT_TRUE(std::isnan(state.first.at(3)) && std::isinf(state.first.at(35)) && std::isinf(state.second.at(35)));
    for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(state.master.at(i)), std::isnan(want.master.at(i))) << i;
  }
}

// A gradient of zero from moments of zero leaves the weight, but for its decay.
TEST(AdamWCpu, NothingComesFromNothing) {
  Array master(Scalar::kFloat32, 20, 2), zero(Scalar::kFloat32, 20), first = zero, second = zero;
  adamw_cpu({.master = master.data(),
             .first_moment = first.data(),
             .second_moment = second.data(),
             .gradient = zero.data(),
             .num_values = 20,
             .rate = 0.5,
             .beta1 = 0.9,
             .beta2 = 0.99,
             .decay = 0.5,
             .epsilon = 1e-8});
  EXPECT_TRUE(master == Array(Scalar::kFloat32, 20, 1.5));
}

TEST(AdamWCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    State state(Scalar::kBFloat16, 50001);
    adamw_cpu(state.args());
    return std::vector<Array>{state.master, state.first, state.second, state.value};
  });
}

}  // namespace
}  // namespace mmoe::kernels
