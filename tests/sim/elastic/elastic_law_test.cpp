#include "sim/elastic/elastic_law.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

// Enumeration adds at most 4^6 probabilities, each right to a few ulps: 1e-12 leaves a factor of 10 or more.
constexpr double kTolerance = 1e-12;

class ElasticLawCases : public testing::TestWithParam<ElasticCase> {};

TEST_P(ElasticLawCases, SumsAgreeWithEnumeration) {
  const auto& [name, config, num_layers] = GetParam();
  const ElasticLaw law(config, num_layers);
  std::map<int64_t, double> sums;
  std::vector<std::map<int64_t, double>> group_sums(static_cast<size_t>(law.num_groups()));
  for (const auto& [k, probability] : enumerate(config, num_layers)) {
    sums[std::accumulate(k.begin(), k.end(), int64_t{0})] += probability;
    for (size_t g = 0; g < group_sums.size(); ++g) {
      int64_t sum = 0;
      if (config.budget) {
        const std::vector<int64_t> layers = config.budget->group_layers()[g];
        for (const int64_t layer : layers) sum += k[static_cast<size_t>(layer)];
      } else {
        sum = std::accumulate(k.begin(), k.end(), int64_t{0});
      }
      group_sums[g][sum] += probability;
    }
  }
  const auto expect_equal = [](const DiscreteLaw& found, std::map<int64_t, double>& wanted) {
    EXPECT_EQ(found.max(), wanted.rbegin()->first);
    double total = 0;
    for (int64_t v = found.min(); v <= found.max(); ++v) {
      EXPECT_NEAR(found.probability(v), wanted[v], kTolerance) << "sum " << v;
      total += wanted[v];
    }
    EXPECT_NEAR(total, 1, kTolerance);
  };
  expect_equal(law.sum(), sums);
  for (int g = 0; g < law.num_groups(); ++g) expect_equal(law.sum_of_group(g), group_sums[static_cast<size_t>(g)]);
}

TEST_P(ElasticLawCases, MarginalsAndDivergencesAgreeWithEnumeration) {
  const auto& [name, config, num_layers] = GetParam();
  const ElasticLaw law(config, num_layers);
  ElasticConfig free_config = config;
  free_config.budget.reset();
  double budget_probability = 0, entropy = 0, whole = 0;
  const auto num_choices = static_cast<size_t>(config.k_max - config.k_min + 1);
  std::vector<std::vector<double>> marginals(static_cast<size_t>(num_layers), std::vector<double>(num_choices));
  std::vector<double> free(num_choices);
  for (const auto& [k, probability] : enumerate(config, num_layers, &budget_probability)) {
    entropy -= probability * std::log(probability);
    whole += probability * std::log(1 / budget_probability);  // the free probability is p * P(budget)
    for (size_t l = 0; l < k.size(); ++l) marginals[l][static_cast<size_t>(k[l] - config.k_min)] += probability;
  }
  for (const auto& [k, probability] : enumerate(free_config, 1)) {
    free[static_cast<size_t>(k[0] - config.k_min)] += probability;
  }
  EXPECT_NEAR(law.log_probability(), std::log(budget_probability), kTolerance);
  EXPECT_NEAR(law.kl_divergence(), whole, kTolerance);
  EXPECT_NEAR(law.entropy(), entropy, kTolerance);
  const std::vector<DiscreteLaw> found = law.marginals();
  const std::vector<double> divergences = law.kl_divergence_by_layer();
  double expected = 0, free_expected = 0;
  std::vector<double> weights;
  for (size_t l = 0; l < marginals.size(); ++l) {
    weights.push_back(1.0 + static_cast<double>(l));
    double divergence = 0;
    ASSERT_EQ(found[l].min(), config.k_min);
    ASSERT_EQ(found[l].max(), config.k_max);
    for (size_t j = 0; j < num_choices; ++j) {
      const double p = marginals[l][j];
      const double k = static_cast<double>(config.k_min) + static_cast<double>(j);
      EXPECT_NEAR(found[l].probabilities()[j], p, kTolerance) << "layer " << l << ", choice " << j;
      divergence += p > 0 ? p * std::log(p / free[j]) : 0;
      expected += weights[l] * p * k;
      free_expected += weights[l] * free[j] * k;
    }
    EXPECT_NEAR(divergences[l], divergence, kTolerance);
  }
  EXPECT_NEAR(law.expected_flops_fraction(weights, 10), (10 + expected) / (10 + free_expected), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(, ElasticLawCases, testing::ValuesIn(elastic_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ElasticLaw, WithoutBudgetKeepsTheGroups) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {3, 4}, {8, 20});
  const ElasticLaw free = ElasticLaw(config, 7).without_budget();
  EXPECT_EQ(free.num_groups(), 2);
  EXPECT_EQ(free.kl_divergence(), 0);
  EXPECT_EQ(free.sum_of_group(1).max(), 24);
  EXPECT_NEAR(free.sum_of_group(0).mean(), 10.5, kTolerance);
}

// Under floor(B / W) in each micro-batch every window of W micro-batches keeps B.
TEST(ElasticLaw, WindowBoundsEachMicroBatch) {
  const ElasticConfig window = with_budget(elastic_config(1, 6), BudgetKind::kWindow, {4}, {41});
  const ElasticConfig at_most = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {4}, {13});
  const DiscreteLaw sum = ElasticLaw(window, 4, 3).sum();
  EXPECT_EQ(sum.max(), 13);
  EXPECT_EQ(sum.probabilities(), ElasticLaw(at_most, 4).sum().probabilities());
}

TEST(ElasticLaw, TopPIsNoDraw) {
  ElasticConfig config = elastic_config(1, 6);
  config.sampling = Sampling::kTopP;
  EXPECT_THROW(ElasticLaw(config, 4), std::logic_error);
}

// Large cases against plain convolution in double, where it does not underflow.
TEST(ElasticLaw, LargeSumsAgreeWithConvolution) {
  const ElasticConfig config = with_budget(elastic_config(1, 6, Granularity::kLayer, Sampling::kCapacityWeighted, 1.5),
                                           BudgetKind::kAtMost, {56}, {196});
  const ElasticLaw law(config, 56);
  std::vector<double> weights;
  for (int k = 1; k <= 6; ++k) weights.push_back(std::pow(k, 1 / 1.5));
  const DiscreteLaw one(1, weights);
  const DiscreteLaw sum = one.sum_of(56), rest = one.sum_of(55);
  const DiscreteLaw free = law.without_budget().sum();
  for (int64_t v = sum.min(); v <= sum.max(); ++v) EXPECT_NEAR(free.probability(v), sum.probability(v), kTolerance);
  const double within = sum.cdf(196);
  EXPECT_NEAR(law.log_probability(), std::log(within), kTolerance);
  for (int64_t v = 56; v <= 196; ++v) EXPECT_NEAR(law.sum().probability(v), sum.probability(v) / within, kTolerance);
  for (int k = 1; k <= 6; ++k) {
    EXPECT_NEAR(law.marginals()[17].probability(k), one.probability(k) * rest.cdf(196 - k) / within, kTolerance);
  }
}

// 128 layers, k up to 64, weights over 10^18: counts reach 10^2300 and beyond.
TEST(ElasticLaw, SoundWhereDoubleUnderflows) {
  const ElasticConfig steep = elastic_config(1, 64, Granularity::kLayer, Sampling::kCapacityWeighted, 0.1);
  const ElasticLaw least(with_budget(steep, BudgetKind::kExact, {128}, {128}), 128);
  double all = 0;
  for (int k = 1; k <= 64; ++k) all += std::pow(k, 10);
  EXPECT_NEAR(least.kl_divergence() / (128 * std::log(all)), 1, kTolerance);
  EXPECT_EQ(least.marginals()[5].probability(1), 1);
  EXPECT_NEAR(least.entropy(), 0, 1e-9);  // a difference of numbers near 5000
  const ElasticLaw next(with_budget(steep, BudgetKind::kExact, {128}, {129}), 128);
  EXPECT_NEAR(next.marginals()[5].probability(2), 1.0 / 128, kTolerance);
  const ElasticLaw half(with_budget(steep, BudgetKind::kAtMost, {128}, {4160}), 128);
  EXPECT_NEAR(half.sum().mean(), 128 * half.marginals()[0].mean(), 1e-8);
  EXPECT_EQ(half.sum().max(), 4160);
}

// Too many draws to enumerate: sums and marginals against plain convolution of one layer's law.
TEST(ElasticLaw, LargeBudgetsAgreeWithConvolution) {
  for (const BudgetKind kind : {BudgetKind::kAtMost, BudgetKind::kExact}) {
    const int num_layers = 128, k_max = 64;
    const int64_t bound = 3900;
    const ElasticConfig free = elastic_config(1, k_max, Granularity::kLayer, Sampling::kCapacityWeighted, 3);
    const ElasticLaw law(with_budget(free, kind, {num_layers}, {bound}), num_layers);
    std::vector<double> one;
    for (int k = 1; k <= k_max; ++k) one.push_back(std::pow(k, 1.0 / 3));
    const DiscreteLaw draw(1, one);
    DiscreteLaw rest = draw;
    for (int l = 2; l < num_layers; ++l) rest = rest.convolve(draw);
    const DiscreteLaw sum = rest.convolve(draw);
    const auto within = [&](const DiscreteLaw& of, int64_t room) {
      return kind == BudgetKind::kExact ? of.probability(room) : of.cdf(room);
    };
    const DiscreteLaw found = law.sum();
    for (int64_t v = found.min(); v <= bound; ++v) {
      const double wanted = kind == BudgetKind::kExact ? 1 : sum.probability(v) / sum.cdf(bound);
      EXPECT_NEAR(found.probability(v), wanted, 1e-12) << v;
    }
    const std::vector<DiscreteLaw> marginals = law.marginals();
    for (int k = 1; k <= k_max; ++k) {
      const double wanted = draw.probability(k) * within(rest, bound - k) / within(sum, bound);
      EXPECT_NEAR(marginals.front().probability(k), wanted, 1e-12) << k;
      EXPECT_NEAR(marginals.back().probability(k), wanted, 1e-12) << k;
    }
  }
}

}  // namespace
}  // namespace mmoe
