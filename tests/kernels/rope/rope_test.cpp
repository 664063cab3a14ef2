#include "kernels/rope/rope.h"

#include <limits>

#include "tests/kernels/kernel_testing.h"
#ifdef MMOE_TEST_CUDA
#include "kernels/rope/rope_cuda.h"
#endif

namespace mmoe::kernels {
namespace {

struct Problem {
  Scalar scalar;
  int64_t batch, seq_len, num_heads, num_rotated_heads, head_dim, offset = 0;
  int64_t positions = seq_len + offset;
  Array x = Array::normal(scalar, batch* seq_len* num_heads* head_dim, 1);
  Array cos{accumulate(scalar), positions*head_dim / 2}, sin{accumulate(scalar), positions*head_dim / 2};

  Rope args(RopeDirection direction = RopeDirection::kForward) {
    rope_fill_table(scalar, 10000, positions, head_dim, cos.data(), sin.data());
    return {.scalar = scalar,
            .x = x.data(),
            .cos = cos.data(),
            .sin = sin.data(),
            .num_rows = batch * seq_len,
            .num_heads = num_heads,
            .num_rotated_heads = num_rotated_heads,
            .head_dim = head_dim,
            .seq_len = seq_len,
            .position_offset = offset,
            .direction = direction};
  }
};

TEST(RopeTable, HoldsTheAngles) {
  Array cos(Scalar::kFloat64, 3 * 2), sin(Scalar::kFloat64, 3 * 2);
  rope_fill_table(Scalar::kFloat64, 100, 3, 4, cos.data(), sin.data());
  EXPECT_EQ(cos.at(0), 1);
  EXPECT_NEAR(sin.at(2 * 2 + 0), std::sin(2.0), 1e-15);
  EXPECT_NEAR(cos.at(2 * 2 + 1), std::cos(0.2), 1e-15);  // theta^(-2/4) = 0.1
}

TEST(RopeReference, HandComputed) {
  // One head of 4 numbers at position 1 and theta 100: the pairs (x0, x2) by 1 rad and (x1, x3) by 0.1 rad.
  Problem p{Scalar::kFloat64, 1, 1, 2, 1, 4, 1};
  Rope args = p.args();
  rope_fill_table(p.scalar, 100, 2, 4, p.cos.data(), p.sin.data());
  for (int64_t i = 0; i < 8; ++i) p.x.set(i, static_cast<double>(i + 1));
  rope_reference(args);
  EXPECT_NEAR(p.x.at(0), 1 * std::cos(1.0) - 3 * std::sin(1.0), 1e-15);
  EXPECT_NEAR(p.x.at(2), 3 * std::cos(1.0) + 1 * std::sin(1.0), 1e-15);
  EXPECT_NEAR(p.x.at(1), 2 * std::cos(0.1) - 4 * std::sin(0.1), 1e-15);
  EXPECT_NEAR(p.x.at(3), 4 * std::cos(0.1) + 2 * std::sin(0.1), 1e-15);
  for (int64_t i = 4; i < 8; ++i) EXPECT_EQ(p.x.at(i), static_cast<double>(i + 1));  // the second head is left alone
}

using RopeTest = KernelTest;

TEST_P(RopeTest, MatchesReferenceBothWays) {
  const auto [version, scalar] = GetParam();
  for (const RopeDirection direction : {RopeDirection::kForward, RopeDirection::kInverse}) {
    for (const int64_t head_dim : {2, 6, 32, 66, 128}) {
      Problem want{scalar, 2, 5, 4, 3, head_dim, 2}, got{scalar, 2, 5, 4, 3, head_dim, 2};
      rope_reference(want.args(direction));
      MMOE_RUN(version, rope, got.args(direction));
      // Two products and a sum of numbers below 5: three roundoffs of 10.
      expect_close(got.x, want.x, rounded(scalar, 0, 30 * roundoff(accumulate(scalar))), "x");
    }
  }
  Problem empty{scalar, 0, 5, 4, 3, 8};
  MMOE_RUN(version, rope, empty.args());
}

TEST_P(RopeTest, InverseUndoesForward) {
  const auto [version, scalar] = GetParam();
  Problem p{scalar, 1, 9, 3, 2, 10};
  const Array before = p.x;
  MMOE_RUN(version, rope, p.args());
  EXPECT_FALSE(p.x == before);
  MMOE_RUN(version, rope, p.args(RopeDirection::kInverse));
  // The table's squares add up to 1 within two roundoffs; the stored intermediate is rounded once, the result too.
  expect_close(p.x, before, {8 * largest(before) * (roundoff(scalar) + 4 * roundoff(accumulate(scalar))), 0}, "x");
}

TEST_P(RopeTest, PropagatesNan) {
  const auto [version, scalar] = GetParam();
  Problem p{scalar, 1, 2, 1, 1, 4};
  p.x.set(4, std::numeric_limits<double>::quiet_NaN());
  MMOE_RUN(version, rope, p.args());
  EXPECT_TRUE(std::isnan(p.x.at(4)) && std::isnan(p.x.at(6)));
  EXPECT_TRUE(std::isfinite(p.x.at(5)) && std::isfinite(p.x.at(7)) && std::isfinite(p.x.at(0)));
}

INSTANTIATE_TEST_SUITE_P(, RopeTest, testing::ValuesIn(all_cases()), case_name);

TEST(RopeCpu, ResultDoesNotDependOnThreads) {
  expect_thread_independent([] {
    Problem p{Scalar::kBFloat16, 3, 100, 12, 8, 64};
    rope_cpu(p.args());
    return std::vector<Array>{p.x};
  });
}

}  // namespace
}  // namespace mmoe::kernels
