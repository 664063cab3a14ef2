#include "kernels/cross_entropy/cross_entropy.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/cross_entropy/cross_entropy_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

struct Problem {
  Scalar scalar;
  int64_t R, V, extra = 0;
  double spread = 3;
  Array logits = Array::normal(scalar, R*(V + extra), 1, spread);
  Array loss{accumulate(scalar), R, 9};
  SharedVector<int32_t> targets = every_fifth_ignored(R, V);

  static SharedVector<int32_t> every_fifth_ignored(int64_t R, int64_t V) {
    SharedVector<int32_t> targets;
    for (int64_t r = 0; r < R; ++r) {
      targets.push_back(r % 5 == 4 ? kIgnoredTarget : static_cast<int32_t>(r * 37 % V));
    }
    return targets;
  }
  CrossEntropy args(LogitsGradient gradient = LogitsGradient::kInPlace) {
    return {.scalar = scalar,
            .logits = logits.data(),
            .targets = targets.data(),
            .loss = loss.data(),
            .num_rows = R,
            .vocab_size = V,
            .stride = V + extra,
            .scale = 0.25,
            .gradient = gradient};
  }
};

TEST(CrossEntropyReference, HandComputed) {
  Problem p{Scalar::kFloat64, 2, 2};
  p.logits = Array::of(Scalar::kFloat64, {std::log(3.0), 0, 5, 5});
  p.targets = {1, kIgnoredTarget};
  cross_entropy_reference(p.args());
  EXPECT_NEAR(p.loss.at(0), std::log(4.0), 1e-15);
  EXPECT_EQ(p.loss.at(1), 0);
  EXPECT_NEAR(p.logits.at(0), 0.25 * 0.75, 1e-15);
  EXPECT_NEAR(p.logits.at(1), 0.25 * -0.75, 1e-15);
  EXPECT_EQ(p.logits.at(2), 0);
}

using CrossEntropyTest = KernelTest;

TEST_P(CrossEntropyTest, MatchesReference) {
  const auto [version, scalar] = GetParam();
  const double u = roundoff(accumulate(scalar));
  for (const auto& [R, V] : {std::pair<int64_t, int64_t>{0, 4}, {1, 1}, {7, 3}, {12, 50}, {6, 1025}, {3, 5000}}) {
    for (const double spread : {0.1, 3.0, 30.0}) {
      Problem want{scalar, R, V, 2, spread}, got{scalar, R, V, 2, spread};
      cross_entropy_reference(want.args(LogitsGradient::kOmit));
      MMOE_RUN(version, cross_entropy, got.args(LogitsGradient::kOmit));
      EXPECT_TRUE(got.logits == want.logits) << "kOmit leaves the logits alone";
      // logsumexp: V roundoffs of a sum of positive terms become an absolute error in the logarithm; the exponents
      // (up to the range of the logits) and the difference with the target logit add roundoffs of the logits' size.
      const double range = R == 0 ? 0 : 2 * largest(want.logits);
      const double sum_error = (static_cast<double>(V) + 6) * u + range * u;
      expect_close(got.loss, want.loss, {2 * sum_error + 2 * range * u, 4 * u}, "loss");
      cross_entropy_reference(want.args());
      MMOE_RUN(version, cross_entropy, got.args());
      expect_close(got.loss, want.loss, {2 * sum_error + 2 * range * u, 4 * u}, "loss");
      // Below 2e-38 the float exponential is 0.
      expect_close(got.logits, want.logits, rounded(scalar, sum_error + range * u, 0.25 * (4e-38 + 2 * sum_error)),
                   "d");
    }
  }
}

TEST_P(CrossEntropyTest, GradientOfARowAddsUpToZero) {
  const auto [version, scalar] = GetParam();
  Problem p{scalar, 4, 300};
  MMOE_RUN(version, cross_entropy, p.args());
  for (int64_t r = 0; r < 4; ++r) {
    double sum = 0, magnitude = 0;
    for (int64_t v = 0; v < 300; ++v) {
      sum += p.logits.at(r * 300 + v);
      magnitude += std::abs(p.logits.at(r * 300 + v));
    }
    EXPECT_NEAR(sum, 0, magnitude * roundoff(scalar) + 300 * roundoff(accumulate(scalar)));
  }
}

TEST_P(CrossEntropyTest, NanInfinityAndBadTargets) {
  const auto [version, scalar] = GetParam();
  const double infinity = std::numeric_limits<double>::infinity();
  Problem p{scalar, 6, 8};
  p.targets = {0, 1, 2, 8, -5, 3};
  p.logits.set(0 * 8 + 5, std::numeric_limits<double>::quiet_NaN());
  p.logits.set(1 * 8 + 5, infinity);
  p.logits.set(2 * 8 + 5, -infinity);  // a masked word: probability 0
  MMOE_RUN(version, cross_entropy, p.args());
  for (const int64_t r : {0, 1, 3, 4}) {
    EXPECT_TRUE(std::isnan(p.loss.at(r))) << r;
    for (int64_t v = 0; v < 8; ++v) {
      EXPECT_TRUE(std::isnan(p.logits.at(r * 8 + v))) << r << ' ' << v;
    }
  }
  EXPECT_TRUE(std::isfinite(p.loss.at(2)) && std::isfinite(p.loss.at(5)));
  EXPECT_EQ(p.logits.at(2 * 8 + 5), 0);
}

using CrossEntropyGradient = KernelTest;  // float64 alone: differences need it

TEST_P(CrossEntropyGradient, MatchesFiniteDifferences) {
  const auto [version, scalar] = GetParam();
  Problem p{scalar, 6, 7}, q{scalar, 6, 7};
  MMOE_RUN(version, cross_entropy, q.args());
  const auto loss = [&] {
    cross_entropy_reference(p.args(LogitsGradient::kOmit));
    double sum = 0;
    for (int64_t r = 0; r < 6; ++r) sum += p.loss.at(r);
    return 0.25 * sum;
  };
  expect_gradient(p.logits, q.logits, loss, "d_logits");
}

INSTANTIATE_TEST_SUITE_P(, CrossEntropyTest, testing::ValuesIn(all_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(, CrossEntropyGradient, testing::ValuesIn(cases({Scalar::kFloat64})), case_name);

TEST(CrossEntropyCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    Problem p{Scalar::kFloat32, 100, 999};
    cross_entropy_cpu(p.args());
    return std::vector<Array>{p.loss, p.logits};
  });
}

}  // namespace
}  // namespace mmoe::kernels
