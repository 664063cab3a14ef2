#include "train/loop/sampling.h"

#include <cmath>
#include <map>

#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

at::Tensor logits_of(const std::vector<double>& probabilities) {
  const at::Tensor logits = at::empty({static_cast<int64_t>(probabilities.size())}, at::kDouble);
  for (size_t i = 0; i < probabilities.size(); ++i) logits.data_ptr<double>()[i] = std::log(probabilities[i]) + 5;
  return logits;
}

std::map<int64_t, double> shares(const at::Tensor& logits, const SamplingOptions& options, int draws) {
  std::map<int64_t, double> result;
  for (int i = 0; i < draws; ++i) result[sample_token(logits, options, static_cast<uint64_t>(i))] += 1.0 / draws;
  return result;
}

// A share of n draws has the standard deviation sqrt(p (1 - p) / n); 5 of them are passed once in 2 million.
constexpr int kDraws = 20000;
void expect_share(double share, double p) { EXPECT_NEAR(share, p, 5 * std::sqrt(p * (1 - p) / kDraws)); }

TEST(SampleToken, FollowsTheSoftmaxAtATemperature) {
  const at::Tensor logits = logits_of({0.1, 0.6, 0.3});
  const auto plain = shares(logits, {}, kDraws);
  expect_share(plain.at(0), 0.1);
  expect_share(plain.at(1), 0.6);
  // At temperature 1/2 probabilities are squared: .01, .36, .09 of .46.
  SamplingOptions cold;
  cold.temperature = 0.5;
  const auto squared = shares(logits, cold, kDraws);
  expect_share(squared.at(0), 0.01 / 0.46);
  expect_share(squared.at(1), 0.36 / 0.46);
}

TEST(SampleToken, KeepsTheMostLikelyTokensOnly) {
  const at::Tensor logits = logits_of({0.1, 0.6, 0.3});
  SamplingOptions two;
  two.top_k = 2;
  const auto by_number = shares(logits, two, kDraws);
  EXPECT_EQ(by_number.count(0), 0U);
  expect_share(by_number.at(2), 1.0 / 3);
  SamplingOptions nucleus;
  nucleus.top_p = 0.55;
  EXPECT_EQ(shares(logits, nucleus, kDraws).size(), 1U);
  nucleus.top_p = 0.65;
  EXPECT_EQ(shares(logits, nucleus, kDraws).size(), 2U);
}

TEST(SampleToken, IsGreedyAtTemperatureZeroAndRepeats) {
  const at::Tensor logits = logits_of({0.2, 0.4, 0.4});
  SamplingOptions greedy;
  greedy.temperature = 0;
  EXPECT_EQ(sample_token(logits, greedy, 0), 1);
  SamplingOptions seeded;
  seeded.seed = 9;
  for (uint64_t i = 0; i < 50; ++i) EXPECT_EQ(sample_token(logits, seeded, i), sample_token(logits, seeded, i));
}

}  // namespace
}  // namespace mmoe
