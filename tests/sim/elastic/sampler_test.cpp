#include "sim/elastic/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "sim/elastic/elastic_law.h"
#include "sim/units/errors.h"
#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

// Upper bound on the 1 - alpha quantile of chi-square with n degrees (Laurent, Massart 2000, lemma 1).
double chi_square_bound(double degrees, double alpha) {
  const double x = -std::log(alpha);
  return degrees + 2 * std::sqrt(degrees * x) + 2 * x;
}

// Pearson's statistic over cells with at least 5 expected draws; the others are one cell together.
void expect_law(const std::map<std::vector<int>, int>& counts, const std::map<std::vector<int>, double>& law,
                int num_draws) {
  constexpr double kFalseAlarm = 1e-6;  // for each call; seeds are fixed, so it would have to be bad luck once
  double statistic = 0, degrees = -1, rest_expected = 0, rest_count = num_draws;
  for (const auto& [cell, probability] : law) {
    const double expected = probability * num_draws;
    const auto found = counts.find(cell);
    const double count = found == counts.end() ? 0 : found->second;
    if (expected < 5) {
      rest_expected += expected;
      continue;
    }
    rest_count -= count;
    statistic += (count - expected) * (count - expected) / expected;
    degrees += 1;
  }
  if (rest_expected >= 5) {
    statistic += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
    degrees += 1;
  } else {
    EXPECT_LE(rest_count, 30) << "draws where " << rest_expected << " were expected";  // P < 1e-6 for a mean below 5
  }
  if (degrees > 0) {
    EXPECT_LT(statistic, chi_square_bound(degrees, kFalseAlarm)) << degrees << " degrees";
  }
}

class SamplerCases : public testing::TestWithParam<ElasticCase> {};

TEST_P(SamplerCases, DrawsFollowTheLaw) {
  const auto& [name, config, num_layers] = GetParam();
  const KSampler sampler(config, num_layers);
  std::map<std::vector<int>, double> law;
  for (const auto& [k, probability] : enumerate(config, num_layers)) law[k] += probability;
  constexpr int kDraws = 40000;
  std::map<std::vector<int>, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    const bool global = config.granularity == Granularity::kGlobalBatch;
    const std::vector<int> k = sampler.draw(42, global ? i : i / 8, i % 8);
    ASSERT_TRUE(law.count(k)) << "draw " << i << " is impossible";
    ++counts[k];
  }
  expect_law(counts, law, kDraws);
}

INSTANTIATE_TEST_SUITE_P(, SamplerCases, testing::ValuesIn(elastic_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

// Drawing again until the bound is kept has the conditioned law, by other bits.
TEST(KSampler, RejectionFollowsTheConditionedLaw) {
  for (const BudgetKind kind : {BudgetKind::kAtMost, BudgetKind::kExact}) {
    const ElasticConfig config = with_budget(elastic_config(1, 4), kind, {2, 2}, {4, 5});
    ElasticConfig reject = config;
    reject.budget->method = BudgetMethod::kReject;
    const KSampler sampler(reject, 4);
    std::map<std::vector<int>, double> law;
    for (const auto& [k, probability] : enumerate(config, 4)) law[k] += probability;
    constexpr int kDraws = 40000;
    std::map<std::vector<int>, int> counts;
    for (int i = 0; i < kDraws; ++i) ++counts[sampler.draw(42, i / 8, i % 8)];
    for (const auto& [k, count] : counts) ASSERT_TRUE(law.count(k)) << count << " impossible draws";
    expect_law(counts, law, kDraws);
  }
}

TEST(KSampler, RejectionThatWouldNotEndIsRefused) {
  ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {8}, {9});  // 9 draws of 6^8
  config.budget->method = BudgetMethod::kReject;
  EXPECT_THROW(KSampler(config, 8), ConfigError);
}

// At a size that cannot be enumerated: the law of the sum and of single layers.
TEST(KSampler, LargeBudgetFollowsTheLaw) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {56}, {190});
  const ElasticLaw law(config, 56);
  const KSampler sampler(config, 56);
  constexpr int kDraws = 10000;
  std::map<std::vector<int>, int> sums, first, last;
  for (int step = 0; step < kDraws; ++step) {
    const std::vector<int> k = sampler.draw(7, step, 0);
    ++sums[{std::accumulate(k.begin(), k.end(), 0)}];
    ++first[{k.front()}];
    ++last[{k.back()}];
  }
  const auto cells = [](const DiscreteLaw& of) {
    std::map<std::vector<int>, double> result;
    for (int64_t v = of.min(); v <= of.max(); ++v) result[{static_cast<int>(v)}] = of.probability(v);
    return result;
  };
  expect_law(sums, cells(law.sum()), kDraws);
  expect_law(first, cells(law.marginals().front()), kDraws);
  expect_law(last, cells(law.marginals().back()), kDraws);
}

TEST(KSampler, DrawsDoNotDependOnTheOrderOfCalls) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {4, 4}, {12, 15});
  const KSampler sampler(config, 8), other(config, 8);
  std::vector<std::vector<int>> draws;
  for (int i = 0; i < 50; ++i) draws.push_back(sampler.draw(3, i, 2 * i));
  for (int i = 49; i >= 0; --i) EXPECT_EQ(other.draw(3, i, 2 * i), draws[static_cast<size_t>(i)]);
  EXPECT_NE(sampler.draw(3, 1, 0), sampler.draw(4, 1, 0));
}

// Each layer has its own counter, so a deeper model draws the same k in the layers it shares.
TEST(KSampler, LayersOwnTheirDraws) {
  const KSampler shallow(elastic_config(1, 6), 3), deep(elastic_config(1, 6), 9);
  for (int step = 0; step < 20; ++step) {
    std::vector<int> k = deep.draw(11, step, 5);
    k.resize(3);
    EXPECT_EQ(k, shallow.draw(11, step, 5));
  }
}

TEST(KSampler, GlobalBatchIgnoresTheMicroBatch) {
  const KSampler sampler(elastic_config(1, 6, Granularity::kGlobalBatch), 3);
  for (int step = 0; step < 20; ++step) EXPECT_EQ(sampler.draw(1, step, 0), sampler.draw(1, step, 9));
}

// Draws are integers' work alone; a change of these means that older runs can no longer be resumed.
TEST(KSampler, DrawsAreFixed) {
  const ElasticConfig free = elastic_config(1, 6);
  const ElasticConfig weighted = elastic_config(1, 6, Granularity::kLayer, Sampling::kCapacityWeighted, 3);
  const ElasticConfig bounded = with_budget(weighted, BudgetKind::kExact, {8}, {30});
  EXPECT_EQ(KSampler(free, 8).draw(1234, 5, 6), (std::vector<int>{3, 2, 4, 6, 6, 6, 3, 4}));
  EXPECT_EQ(KSampler(weighted, 8).draw(1234, 5, 6), (std::vector<int>{3, 3, 5, 6, 6, 6, 4, 4}));
  EXPECT_EQ(KSampler(bounded, 8).draw(1234, 5, 6), (std::vector<int>{2, 1, 2, 5, 6, 6, 4, 4}));
}

}  // namespace
}  // namespace mmoe
