#include "kernels/router/router.h"

#include <array>
#include <limits>

#include "tests/kernels/router/router_problem.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/router/router_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::array<std::array<int64_t, 3>, 8> kShapes = {
    {{0, 4, 2}, {1, 1, 1}, {9, 5, 5}, {33, 16, 6}, {70, 64, 8}, {40, 60, 4}, {6, 512, 16}, {3, 130, 64}}};

TEST(RouterReference, HandComputed) {
  // Probabilities 1/8, 4/8, 1/8, 2/8: the tie of experts 0 and 2 goes to 0.
  RouterProblem p{Scalar::kFloat64, 1, 4, 3, GateNormalization::kSelected};
  p.logits = Array::of(Scalar::kFloat64, {0, std::log(4.0), 0, std::log(2.0)});
  router_forward_reference(p.forward());
  EXPECT_EQ(p.indices, (SharedVector<int32_t>{1, 3, 0}));
  EXPECT_NEAR(p.weights.at(0), 4 / 7.0, 1e-15);
  EXPECT_NEAR(p.weights.at(2), 1 / 7.0, 1e-15);
  EXPECT_NEAR(p.log_sum_exp.at(0), std::log(8.0), 1e-15);
  EXPECT_NEAR(p.z_loss.at(0), std::log(8.0) * std::log(8.0), 1e-14);
  EXPECT_NEAR(p.load_balance_loss.at(0), 4 * (4 + 2 + 1) / 8.0 / 3, 1e-15);  // f = 1/3 for three experts
  EXPECT_EQ(p.counts, (SharedVector<int64_t>{1, 1, 0, 1}));

  RouterProblem reference{Scalar::kFloat64, 1, 4, 1, GateNormalization::kReference, 2};
  reference.logits = p.logits;
  router_forward_reference(reference.forward());
  EXPECT_NEAR(reference.weights.at(0), 4 / 6.0, 1e-15);

  RouterProblem top_p{Scalar::kFloat64, 1, 4, 3, GateNormalization::kNone, 0, 0.7};
  top_p.logits = p.logits;
  router_forward_reference(top_p.forward());
  EXPECT_EQ(top_p.indices, (SharedVector<int32_t>{1, 3, -1}));  // 0.5 < 0.7 <= 0.75
  EXPECT_EQ(top_p.num_selected[0], 2);
  EXPECT_EQ(top_p.weights.at(2), 0);
}

using RouterTest = KernelTest;
using RouterGradient = KernelTest;  // float64 alone: differences need it

TEST_P(RouterTest, ForwardMatchesReference) {
  const auto [version, scalar] = GetParam();
  const double u = roundoff(scalar);
  for (const auto& [T, E, K] : kShapes) {
    for (RouterProblem& want : router_variants(scalar, T, E, K)) {
      RouterProblem got = want;
      router_forward_reference(want.forward());
      MMOE_RUN_WITH_WORKSPACE(version, router_forward, got.forward());
      EXPECT_EQ(got.indices, want.indices);
      EXPECT_EQ(got.num_selected, want.num_selected);
      EXPECT_EQ(got.counts, want.counts);
      // The exponent's argument is rounded (range of the logits), the sum of E positive terms, then the weight's norm.
      const double range = 2 * largest(want.logits), computed = (static_cast<double>(E + K) + range + 8) * u;
      expect_close(got.probabilities, want.probabilities, rounded(scalar, computed), "probabilities");
      expect_close(got.weights, want.weights, rounded(scalar, 2 * computed), "weights");
      expect_close(got.log_sum_exp, want.log_sum_exp, rounded(scalar, 0, 2 * computed), "log_sum_exp");
      const double mean = computed + static_cast<double>(T) * u;
      expect_close(got.mean_probability, want.mean_probability, rounded(scalar, mean), "mean_probability");
      expect_close(got.load_balance_loss, want.load_balance_loss, rounded(scalar, mean + static_cast<double>(E) * u),
                   "balance");
      expect_close(got.z_loss, want.z_loss, rounded(scalar, mean, 4 * computed * (1 + largest(want.log_sum_exp))),
                   "z_loss");
    }
  }
}

TEST_P(RouterTest, BackwardMatchesReference) {
  const auto [version, scalar] = GetParam();
  for (const auto& [T, E, K] : kShapes) {
    for (RouterProblem& want : router_variants(scalar, T, E, K)) {
      router_forward_reference(want.forward());
      RouterProblem got = want;
      RouterBackward args = want.backward();
      args.num_tokens_in_mean = 2 * T;
      router_backward_reference(args);
      args = got.backward();
      args.num_tokens_in_mean = 2 * T;
      MMOE_RUN(version, router_backward, args);
      // Each of the at most E + K terms of a gradient is bounded by |d_weights| (1 + w) / norm, where the smallest norm
      // is a token's largest probability, at least 1 / E; the auxiliary gradients by their coefficients.
      double least_norm = 1;
      if (want.normalization != GateNormalization::kNone) least_norm = 1 / static_cast<double>(E);
      const double weight = std::max(1.0, largest(want.weights));
      const double term = static_cast<double>(K) * largest(want.d_weights) * (1 + weight) / least_norm + 1;
      const double absolute = 2 * term * static_cast<double>(E + K + 8) * roundoff(scalar);
      expect_close(got.d_logits, want.d_logits, rounded(scalar, 0, absolute), "d_logits");
    }
  }
}

TEST_P(RouterTest, WorksInPlace) {
  const auto [version, scalar] = GetParam();
  RouterProblem apart{scalar, 20, 12, 3, GateNormalization::kSelected}, aliased = apart;
  MMOE_RUN_WITH_WORKSPACE(version, router_forward, apart.forward());
  RouterForward forward = aliased.forward();
  forward.probabilities = aliased.logits.data();
  forward.num_selected = nullptr;
  MMOE_RUN_WITH_WORKSPACE(version, router_forward, forward);
  EXPECT_TRUE(aliased.logits == apart.probabilities);
  EXPECT_EQ(aliased.indices, apart.indices);
  MMOE_RUN(version, router_backward, apart.backward());
  RouterBackward backward = apart.backward();
  backward.d_logits = apart.probabilities.data();
  MMOE_RUN(version, router_backward, backward);
  EXPECT_TRUE(apart.probabilities == apart.d_logits);
}

TEST_P(RouterTest, TiesGoToTheLowerIndex) {
  const auto [version, scalar] = GetParam();
  RouterProblem p{scalar, 2, 20, 20};
  for (int64_t e = 0; e < 40; ++e) p.logits.set(e, e % 2 == 0 ? 1 : -kInfinity);
  MMOE_RUN_WITH_WORKSPACE(version, router_forward, p.forward());
  for (int32_t j = 0; j < 20; ++j) {
    EXPECT_EQ(p.indices[static_cast<size_t>(j)], j < 10 ? 2 * j : 2 * (j - 10) + 1);
    EXPECT_EQ(p.weights.at(20 + j) > 0, j < 10) << "a logit of -inf has probability 0";
  }
}

TEST_P(RouterTest, NanStaysInItsTokenAndIndicesInRange) {
  const auto [version, scalar] = GetParam();
  for (const GateNormalization normalization :
       {GateNormalization::kNone, GateNormalization::kSelected, GateNormalization::kReference}) {
    RouterProblem p{scalar, 4, 10, 4, normalization, 6};
    p.logits.set(3, kNan);
    p.logits.set(10 + 7, kInfinity);
    for (int64_t e = 0; e < 10; ++e) p.logits.set(20 + e, -kInfinity);
    MMOE_RUN_WITH_WORKSPACE(version, router_forward, p.forward());
    MMOE_RUN(version, router_backward, p.backward());
    for (int64_t t = 0; t < 3; ++t) {
      for (int64_t j = 0; j < 4; ++j) {
        EXPECT_EQ(p.indices[static_cast<size_t>(t * 4 + j)], j);
        EXPECT_TRUE(std::isnan(p.weights.at(t * 4 + j)));
      }
      for (int64_t e = 0; e < 10; ++e) {
        EXPECT_TRUE(std::isnan(p.probabilities.at(t * 10 + e)) && std::isnan(p.d_logits.at(t * 10 + e)));
      }
    }
    for (int64_t e = 0; e < 10; ++e) EXPECT_TRUE(std::isfinite(p.d_logits.at(30 + e)));
    EXPECT_TRUE(std::isnan(p.load_balance_loss.at(0)) && std::isnan(p.z_loss.at(0)));
  }
}

TEST_P(RouterTest, BalancedLoadHasLossOne) {
  const auto [version, scalar] = GetParam();
  RouterProblem p{scalar, 12, 4, 1};
  for (int64_t i = 0; i < 48; ++i) p.logits.set(i, i / 4 % 4 == i % 4 ? 1 : 0);
  MMOE_RUN_WITH_WORKSPACE(version, router_forward, p.forward());
  EXPECT_NEAR(p.load_balance_loss.at(0), 1, 32 * roundoff(scalar));
}

TEST_P(RouterGradient, MatchesFiniteDifferences) {
  const auto [version, scalar] = GetParam();
  for (RouterProblem& p : router_variants(scalar, 3, 7, 4)) {
    MMOE_RUN_WITH_WORKSPACE(version, router_forward, p.forward());
    MMOE_RUN(version, router_backward, p.backward(0.7, 0.3));
    const SharedVector<int32_t> indices = p.indices;
    const SharedVector<int64_t> counts = p.counts;
    const auto loss = [&] {
      router_forward_reference(p.forward());
      EXPECT_EQ(p.indices, indices) << "the step must not change the selection";
      return dot(p.weights, p.d_weights) + 0.7 * p.load_balance_loss.at(0) + 0.3 * p.z_loss.at(0);
    };
    const Array d_logits = p.d_logits;
    expect_gradient(p.logits, d_logits, loss, "d_logits");
  }
}

INSTANTIATE_TEST_SUITE_P(, RouterTest, testing::ValuesIn(accumulate_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(, RouterGradient, testing::ValuesIn(cases({Scalar::kFloat64})), case_name);

TEST(RouterCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    RouterProblem p{Scalar::kFloat32, 3000, 32, 6, GateNormalization::kSelected};
    router_forward_cpu(p.forward());
    router_backward_cpu(p.backward());
    return std::vector<Array>{p.probabilities, p.weights,  p.mean_probability, p.load_balance_loss,
                              p.z_loss,        p.d_logits, p.log_sum_exp};
  });
}

}  // namespace
}  // namespace mmoe::kernels
