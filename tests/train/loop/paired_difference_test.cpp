#include "train/loop/paired_difference.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

Evaluation evaluation(std::vector<double> losses, std::vector<int64_t> tokens) {
  Evaluation result;
  result.window_losses = std::move(losses);
  result.window_tokens = std::move(tokens);
  return result;
}

// Student's t with one degree of freedom is Cauchy's law: quantile(p) = tan(pi (p - 1/2)).
const double kT975 = std::tan(M_PI * 0.475), kT80 = std::tan(M_PI * 0.3);
constexpr double kRounding = 1e-9;  // a dozen double operations, and Boost's quantile

TEST(PairedDifference, IsAsComputedByHand) {
  const Evaluation first = evaluation({21, 23, 25, 27}, {10, 10, 10, 10});
  const Evaluation second = evaluation({20, 20, 20, 20}, {10, 10, 10, 10});
  // Blocks of two: differences 4 and 12 over 20 tokens each; mean 16 / 40; residuals -4 and 4;
  // variance 2 / 1 * 32 / 40^2 = 0.2^2.
  const PairedDifference difference = paired_difference(first, second, 2);
  EXPECT_NEAR(difference.mean, 0.4, kRounding);
  EXPECT_NEAR(difference.low, 0.4 - 0.2 * kT975, kRounding);
  EXPECT_NEAR(difference.high, 0.4 + 0.2 * kT975, kRounding);
  EXPECT_NEAR(difference.smallest_resolvable, 0.2 * (kT975 + kT80), kRounding);
  EXPECT_EQ(difference.num_blocks, 2);
}

TEST(PairedDifference, WeighsAShortLastBlockByItsTokens) {
  const Evaluation first = evaluation({12, 12, 7}, {10, 10, 5}), second = evaluation({10, 10, 5}, {10, 10, 5});
  // Differences 4 over 20 tokens and 2 over 5: mean 6 / 25; residuals -0.8 and 0.8; variance 2 * 1.28 / 25^2.
  const PairedDifference difference = paired_difference(first, second, 2);
  EXPECT_NEAR(difference.mean, 0.24, kRounding);
  EXPECT_NEAR(difference.high - difference.mean, 0.064 * kT975, kRounding);
}

TEST(PairedDifference, OfEqualLossesIsExactlyZero) {
  const Evaluation same = evaluation({21.3, 23.7, 25.1}, {10, 10, 7});
  const PairedDifference difference = paired_difference(same, same, 1);
  EXPECT_EQ(difference.mean, 0);
  EXPECT_EQ(difference.low, 0);
  EXPECT_EQ(difference.high, 0);
}

TEST(BlockLength, LeavesManyBlocksUnlessDocumentsAreLong) {
  EXPECT_EQ(block_length(320, 0.5, "data"), 10);  // 32 blocks
  EXPECT_EQ(block_length(320, 16.2, "data"), 17);
  EXPECT_EQ(block_length(320, 1000, "data"), 40);  // never below 8 blocks
  EXPECT_EQ(block_length(7, 100, "data"), 1);
  EXPECT_NE(message_of<ConfigError>([] { block_length(1, 1, "data.test.bin"); }).find("data.test.bin"),
            std::string::npos);
}

}  // namespace
}  // namespace mmoe
