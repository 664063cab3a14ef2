#include "sim/elastic/window_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "sim/elastic/elastic_law.h"
#include "sim/units/errors.h"
#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

TEST(WindowSampler, EveryWindowKeepsTheBoundAndIsFilled) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kWindow, {4, 3}, {50, 20});
  const WindowSampler sampler(config, 7, {3, 2});
  int64_t largest_first = 0, largest_second = 0;
  for (int64_t step = 0; step < 300; ++step) {
    const auto k = sampler.draw_step(3, step, 0, 12);
    for (size_t m = 0; m + 3 <= k.size(); ++m) {
      int64_t sum = 0;
      for (size_t i = m; i < m + 3; ++i) sum += std::accumulate(k[i].begin(), k[i].begin() + 4, 0);
      EXPECT_LE(sum, 50);
      largest_first = std::max(largest_first, sum);
    }
    for (size_t m = 0; m + 2 <= k.size(); ++m) {
      int64_t sum = 0;
      for (size_t i = m; i < m + 2; ++i) sum += std::accumulate(k[i].begin() + 4, k[i].end(), 0);
      EXPECT_LE(sum, 20);
      largest_second = std::max(largest_second, sum);
    }
  }
  EXPECT_EQ(largest_first, 50);  // the bound is used up, not only kept
  EXPECT_EQ(largest_second, 20);
}

// Two micro-batches in flight of two, small enough to enumerate: P(k of both) from the definition of the causal law.
TEST(WindowSampler, DrawsFollowTheCausalLaw) {
  const ElasticConfig free = elastic_config(1, 3);
  const int64_t bound = 7;
  const WindowSampler sampler(with_budget(free, BudgetKind::kWindow, {2}, {bound}), 2, {2});
  std::map<std::vector<int>, double> law;
  const auto draws_given = [&](int64_t room) {
    return enumerate(with_budget(free, BudgetKind::kAtMost, {2}, {std::min<int64_t>(room, 6)}), 2);
  };
  for (const auto& [first, p] : draws_given(bound - 2)) {
    for (const auto& [second, q] : draws_given(bound - first[0] - first[1])) {
      law[{first[0], first[1], second[0], second[1]}] = p * q;
    }
  }
  constexpr int kDraws = 40000;
  std::map<std::vector<int>, int> counts;
  for (int64_t step = 0; step < kDraws; ++step) {
    const auto k = sampler.draw_step(5, step, 0, 2);
    ++counts[{k[0][0], k[0][1], k[1][0], k[1][1]}];
  }
  double statistic = 0;
  int seen = 0;
  for (const auto& [cell, p] : law) {
    ASSERT_GT(p * kDraws, 5);
    statistic += std::pow(counts[cell] - p * kDraws, 2) / (p * kDraws);
    seen += counts[cell];
  }
  EXPECT_EQ(seen, kDraws);
  // Laurent, Massart 2000, lemma 1: a false alarm of at most 1e-6.
  const double degrees = static_cast<double>(law.size()) - 1, x = -std::log(1e-6);
  EXPECT_LT(statistic, degrees + 2 * std::sqrt(degrees * x) + 2 * x);
}

// With two micro-batches the KL divergence has a closed form: 0 for the first, E[-log P(sum <= room)] for the second.
TEST(WindowLaw, DivergenceAgreesWithTheChainRule) {
  const DiscreteLaw free = DiscreteLaw(1, std::vector<double>(6, 1.0)).sum_of(3);
  const int64_t bound = 22;
  const auto log_within = [&](int64_t room) { return std::log(free.cdf(room)); };
  double expected = -log_within(bound - free.min());
  for (int64_t s = free.min(); s <= free.max(); ++s) expected -= free.probability(s) * log_within(bound - s);
  const WindowLaw law = window_law(free, bound, 2, 2, 20000, 1);
  EXPECT_NEAR(law.kl_divergence, expected / 2, 5 * law.standard_error);
  double second = 0;
  for (int64_t s = free.min(); s <= free.max(); ++s) {
    double sum = 0;
    for (int64_t v = free.min(); v <= std::min(free.max(), bound - s); ++v)
      sum += static_cast<double>(v) * free.probability(v);
    second += free.probability(s) * sum / free.cdf(bound - s);
  }
  // The expected second sum lies in 3..10.5, so its mean over 20,000 steps within 5 * 7.5 / 2 / sqrt(20,000).
  EXPECT_NEAR(law.mean_sum, (free.mean() + second) / 2, 0.07);
  EXPECT_LE(law.largest_window.max(), bound);
  EXPECT_LT(law.standard_error, 0.02 * expected);
}

// floor(B / W) on each micro-batch also keeps every window, but costs far more diversity.
TEST(WindowLaw, KeepsMoreDiversityThanABoundOnEachMicroBatch) {
  const DiscreteLaw free = DiscreteLaw(1, std::vector<double>(6, 1.0)).sum_of(14);
  const int64_t width = 4, bound = 210;
  const double of_each = -std::log(free.cdf(bound / width));
  const WindowLaw law = window_law(free, bound, width, 32);
  EXPECT_LT(law.kl_divergence + 5 * law.standard_error, 0.5 * of_each);
}

TEST(WindowSampler, RefusesWhatNoDrawKeeps) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kWindow, {4}, {11});
  EXPECT_THROW(WindowSampler(config, 4, {3}), ConfigError);
}

}  // namespace
}  // namespace mmoe
