#include "kernels/swiglu/swiglu.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/swiglu/swiglu_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

enum class Routing { kNone, kRouted };

// Rows 3, 10, 17, ... are padding; row r has pair R - 1 - r.
struct Problem {
  Scalar scalar;
  int64_t R, F;
  Routing routing = Routing::kRouted;
  Array gate_up = Array::normal(scalar, R * 2 * F, 1, 3), weights = Array::normal(accumulate(scalar), R, 2);
  Array da = Array::normal(scalar, R*F, 3), a{scalar, R*F}, again{scalar, R*F}, d_gate_up{scalar, R * 2 * F};
  Array d_weights{accumulate(scalar), R, 7};
  SharedVector<int32_t> pair_of_row = pairs(R);

  static SharedVector<int32_t> pairs(int64_t num_rows) {
    SharedVector<int32_t> result;
    for (int64_t r = 0; r < num_rows; ++r) result.push_back(r % 7 == 3 ? -1 : static_cast<int32_t>(num_rows - 1 - r));
    return result;
  }
  const int32_t* rows() const { return routing == Routing::kRouted ? pair_of_row.data() : nullptr; }
  SwigluForward forward() {
    return {.scalar = scalar,
            .gate_up = gate_up.data(),
            .weights = weights.data(),
            .pair_of_row = rows(),
            .a = a.data(),
            .num_rows = R,
            .expert_hidden_size = F};
  }
  SwigluBackward backward() {
    return {.scalar = scalar,
            .da = da.data(),
            .gate_up = gate_up.data(),
            .weights = weights.data(),
            .pair_of_row = rows(),
            .d_gate_up = d_gate_up.data(),
            .d_weights = d_weights.data(),
            .a = again.data(),
            .num_rows = R,
            .expert_hidden_size = F};
  }
};

TEST(SwigluReference, HandComputed) {
  Problem p{Scalar::kFloat64, 1, 1};
  p.gate_up = Array::of(Scalar::kFloat64, {2, 3});
  p.weights = Array::of(Scalar::kFloat64, {0.5});
  p.da = Array::of(Scalar::kFloat64, {4});
  const double sigmoid = 1 / (1 + std::exp(-2.0)), silu = 2 * sigmoid;
  swiglu_forward_reference(p.forward());
  EXPECT_NEAR(p.a.at(0), 0.5 * silu * 3, 1e-15);
  swiglu_backward_reference(p.backward());
  EXPECT_NEAR(p.d_gate_up.at(0), 4 * 0.5 * 3 * (sigmoid + 2 * sigmoid * (1 - sigmoid)), 1e-14);
  EXPECT_NEAR(p.d_gate_up.at(1), 4 * 0.5 * silu, 1e-15);
  EXPECT_NEAR(p.d_weights.at(0), 4 * silu * 3, 1e-14);
}

using SwigluTest = KernelTest;
using SwigluGradient = KernelTest;  // float64 alone: differences need it
constexpr double kExpUlp = 4;       // the float exponential is within 2 ulp, 4 roundoffs

TEST_P(SwigluTest, MatchesReference) {
  const auto [version, scalar] = GetParam();
  const double u = roundoff(accumulate(scalar));
  for (const Routing routing : {Routing::kNone, Routing::kRouted}) {
    for (const auto& [R, F] : {std::pair<int64_t, int64_t>{0, 8}, {1, 1}, {5, 3}, {33, 16}, {9, 129}, {4, 1024}}) {
      Problem want{scalar, R, F, routing}, got{scalar, R, F, routing};
      swiglu_forward_reference(want.forward());
      MMOE_RUN(version, swiglu_forward, got.forward());
      expect_close(got.a, want.a, rounded(scalar, (kExpUlp + 6) * u), "a");
      swiglu_backward_reference(want.backward());
      MMOE_RUN(version, swiglu_backward, got.backward());
      expect_close(got.again, want.a, rounded(scalar, (kExpUlp + 6) * u), "a again");
      // 1 + g (1 - sigmoid) can cancel: its error is up to |g| + 1 roundoffs' worth, scaled by da, weight and up.
      const double g = largest(want.gate_up), d = largest(want.da),
                   w = routing == Routing::kNone ? 1 : largest(want.weights);
      expect_close(got.d_gate_up, want.d_gate_up,
                   rounded(scalar, (kExpUlp + 8) * u, d * w * g * (1 + g) * (kExpUlp + 8) * u), "d");
      if (R == 0) continue;
      const double terms = static_cast<double>(F);
      expect_close(got.d_weights, want.d_weights, {2 * terms * d * g * g * (terms / 2 + kExpUlp + 8) * u, 0},
                   "d_weights");
    }
  }
}

TEST_P(SwigluTest, BackwardWorksInPlace) {
  const auto [version, scalar] = GetParam();
  Problem apart{scalar, 8, 20}, aliased{scalar, 8, 20};
  MMOE_RUN(version, swiglu_backward, apart.backward());
  SwigluBackward args = aliased.backward();
  args.d_gate_up = aliased.gate_up.data();
  args.a = aliased.da.data();
  MMOE_RUN(version, swiglu_backward, args);
  EXPECT_TRUE(aliased.gate_up == apart.d_gate_up);
  EXPECT_TRUE(aliased.da == apart.again);
  EXPECT_TRUE(aliased.d_weights == apart.d_weights);
  Problem fewer{scalar, 8, 20};
  args = fewer.backward();
  args.a = nullptr;
  args.d_weights = nullptr;
  MMOE_RUN(version, swiglu_backward, args);
  EXPECT_TRUE(fewer.d_gate_up == apart.d_gate_up);
}

TEST_P(SwigluTest, PaddingIsZeroWhateverItHolds) {
  const auto [version, scalar] = GetParam();
  Problem p{scalar, 5, 6};
  for (int64_t i = 0; i < 12; ++i) p.gate_up.set(3 * 12 + i, std::numeric_limits<double>::quiet_NaN());
  MMOE_RUN(version, swiglu_forward, p.forward());
  MMOE_RUN(version, swiglu_backward, p.backward());
  for (int64_t f = 0; f < 6; ++f) {
    EXPECT_EQ(p.a.at(3 * 6 + f), 0);
    EXPECT_EQ(p.d_gate_up.at(3 * 12 + f), 0);
    EXPECT_EQ(p.d_gate_up.at(3 * 12 + 6 + f), 0);
  }
  EXPECT_EQ(p.d_weights.at(1), 7) << "no row has pair 1, so its gradient is not touched";
}

TEST_P(SwigluTest, ExtremesOfTheGateAndNan) {
  const auto [version, scalar] = GetParam();
  Problem p{scalar, 1, 4, Routing::kNone};
  p.gate_up = Array::of(scalar, {-1000, 1000, std::numeric_limits<double>::quiet_NaN(), 0, 1, 1, 1, 1});
  MMOE_RUN(version, swiglu_forward, p.forward());
  EXPECT_EQ(p.a.at(0), 0);
  EXPECT_NEAR(p.a.at(1), 1000, 1000 * roundoff(scalar));
  EXPECT_TRUE(std::isnan(p.a.at(2)));
  EXPECT_EQ(p.a.at(3), 0);
  MMOE_RUN(version, swiglu_backward, p.backward());
  EXPECT_EQ(p.d_gate_up.at(0), 0);
  EXPECT_TRUE(std::isnan(p.d_gate_up.at(2)));
}

TEST_P(SwigluGradient, MatchesFiniteDifferences) {
  const auto [version, scalar] = GetParam();
  Problem p{scalar, 6, 5};
  MMOE_RUN(version, swiglu_backward, p.backward());
  const auto loss = [&] {
    swiglu_forward_reference(p.forward());
    return dot(p.a, p.da);
  };
  const Array d_gate_up = p.d_gate_up;
  Array d_weights = p.d_weights;
  d_weights.set(2, 0);  // the pair of the padding row
  expect_gradient(p.gate_up, d_gate_up, loss, "d_gate_up");
  expect_gradient(p.weights, d_weights, loss, "d_weights");
}

INSTANTIATE_TEST_SUITE_P(, SwigluTest, testing::ValuesIn(all_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(, SwigluGradient, testing::ValuesIn(cases({Scalar::kFloat64})), case_name);

TEST(SwigluCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    Problem p{Scalar::kFloat32, 500, 100};
    swiglu_forward_cpu(p.forward());
    swiglu_backward_cpu(p.backward());
    return std::vector<Array>{p.a, p.d_gate_up, p.d_weights};
  });
}

}  // namespace
}  // namespace mmoe::kernels
