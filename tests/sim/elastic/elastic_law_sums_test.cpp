// Sums of per-layer costs under ElasticLaw: moments, laws on a grid, whole steps.

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "sim/elastic/elastic_law.h"
#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

// Costs that rise with k but not in a straight line, different for each layer.
LayerCosts bent_costs(const ElasticConfig& config, int num_layers) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> uniform(0.5, 1.5);
  LayerCosts costs;
  for (int l = 0; l < num_layers; ++l) {
    auto& layer = costs.emplace_back();
    for (int k = config.k_min; k <= config.k_max; ++k) layer.push_back(3 + k * uniform(random));
  }
  return costs;
}

double sum_of(const LayerCosts& costs, const ElasticConfig& config, const std::vector<int>& k) {
  double sum = 0;
  for (size_t l = 0; l < k.size(); ++l) sum += costs[l][static_cast<size_t>(k[l] - config.k_min)];
  return sum;
}

ValueLaw enumerated_sum(const ElasticConfig& config, int num_layers, const LayerCosts& costs) {
  std::vector<std::pair<double, double>> outcomes;
  for (const auto& [k, probability] : enumerate(config, num_layers)) {
    outcomes.emplace_back(sum_of(costs, config, k), probability);
  }
  return ValueLaw(outcomes);
}

class ElasticSumCases : public testing::TestWithParam<ElasticCase> {};

TEST_P(ElasticSumCases, MomentsAgreeWithEnumeration) {
  const auto& [name, config, num_layers] = GetParam();
  const LayerCosts costs = bent_costs(config, num_layers);
  const ValueLaw wanted = enumerated_sum(config, num_layers, costs);
  const Moments moments = ElasticLaw(config, num_layers).moments(costs);
  EXPECT_NEAR(moments.mean, wanted.mean(), 1e-11);  // sums of 4^6 terms near 40
  EXPECT_NEAR(moments.variance, wanted.std() * wanted.std(), 1e-11);
}

TEST_P(ElasticSumCases, GridLawStaysWithinItsStatedError) {
  const auto& [name, config, num_layers] = GetParam();
  const LayerCosts costs = bent_costs(config, num_layers);
  const ValueLaw wanted = enumerated_sum(config, num_layers, costs);
  const GridLaw law = ElasticLaw(config, num_layers).additive_law(costs, 256);
  EXPECT_NEAR(law.mean(), wanted.mean(), 1e-10);
  EXPECT_NEAR(law.std() * law.std(), wanted.std() * wanted.std(), 1e-10);
  EXPECT_NEAR(law.least, wanted.min(), 1e-10);
  EXPECT_NEAR(law.largest, wanted.max(), 1e-10);
  // No outcome moved by more than the displacement, so the law lies between the shifted exact ones.
  const double shift = law.displacement + 1e-9;
  for (double x = wanted.min(); x <= wanted.max(); x += (wanted.max() - wanted.min()) / 97 + 1e-6) {
    EXPECT_LE(law.cdf(x - shift), wanted.cdf(x) + 1e-12);
    EXPECT_GE(law.cdf(x + shift), wanted.cdf(x) - 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(, ElasticSumCases, testing::ValuesIn(elastic_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

// Costs that are a line in k need no grid: the law is that of the sum of k.
TEST(ElasticSums, LinearCostsAreExact) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {20}, {65});
  const ElasticLaw law(config, 20);
  const LayerCosts costs(20, {5, 7, 9, 11, 13, 15});
  const GridLaw found = law.additive_law(costs, 100);  // spacing 2: one k
  EXPECT_EQ(found.displacement, 0);
  EXPECT_EQ(found.added_variance, 0);
  const DiscreteLaw sum = law.sum();
  for (int64_t v = sum.min(); v <= sum.max(); ++v) {
    EXPECT_NEAR(found.cdf(60 + 2.0 * static_cast<double>(v)), sum.cdf(v), 1e-12);
  }
}

TEST(ElasticSums, StepsAddMicroBatches) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {8}, {25});
  const LayerCosts costs = bent_costs(config, 8);
  const ElasticLaw law(config, 8);
  const Moments one = law.moments(costs);
  const GridLaw step = law.additive_law_of_step(costs, 13, 1024);
  EXPECT_NEAR(step.mean(), 13 * one.mean, 1e-9);
  EXPECT_NEAR(step.std(), std::sqrt(13 * one.variance), 1e-6 * step.std());
  // Nearly normal: skewness falls as 1 / sqrt(13 * 8), far below the 5 % of a deviation allowed here.
  EXPECT_NEAR(step.quantile(0.99), step.mean() + 2.3263 * step.std(), 0.15 * step.std() + step.displacement);

  const ElasticConfig global = elastic_config(1, 6, Granularity::kGlobalBatch);
  const ElasticLaw one_k(global, 8);
  EXPECT_NEAR(one_k.additive_law_of_step(costs, 13).std(), 13 * std::sqrt(one_k.moments(costs).variance), 1e-8);
}

}  // namespace
}  // namespace mmoe
