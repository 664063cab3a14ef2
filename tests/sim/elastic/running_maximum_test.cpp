#include "sim/elastic/running_maximum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

double maximum_of(const ElasticConfig& config, const RunningMaximumTerms& terms, const std::vector<int>& k) {
  double largest = -INFINITY, sum = 0;
  for (size_t l = 0; l < k.size(); ++l) {
    const auto j = static_cast<size_t>(k[l] - config.k_min);
    sum += terms.slope * k[l] + (terms.surplus.empty() ? 0 : terms.surplus[l][j]);
    largest = std::max(largest, terms.fixed[l] + sum + terms.bump[l][j]);
  }
  return largest;
}

struct Shape {
  const char* name;
  double slope, fixed_step, bump_step, noise;
  double surplus = 0;  // largest, of either sign
};
// Activations kept (the last layers decide), recomputed (each layer's bump decides), falling, no order at all, and what
// is kept by no straight line in k.
constexpr Shape kShapes[] = {{"kept", 3, 5, 4, 0},
                             {"kept_with_large_bumps", 1, 0.25, 6, 1},
                             {"recomputed", 0, 1, 7, 0},
                             {"falling", 1, -4, 3, 0},
                             {"fractions", 0.3, 0.1, 0.7, 0.9},
                             {"nothing", 0, 0, 0, 0},
                             {"uneven", 3, 5, 4, 0, 2.5},
                             {"uneven_with_noise", 0.3, 0.1, 0.7, 0.9, 0.5}};

RunningMaximumTerms terms_of(const Shape& shape, const ElasticConfig& config, int num_layers) {
  std::mt19937 random(17);
  std::uniform_real_distribution<double> noise(0, shape.noise > 0 ? shape.noise : 1e-300);
  RunningMaximumTerms terms;
  terms.slope = shape.slope;
  for (int l = 0; l < num_layers; ++l) {
    terms.fixed.push_back(100 + shape.fixed_step * l + noise(random));
    auto& bump = terms.bump.emplace_back();
    for (int k = config.k_min; k <= config.k_max; ++k) bump.push_back(shape.bump_step * k + noise(random));
  }
  std::uniform_real_distribution<double> surplus(-shape.surplus, shape.surplus);
  for (int l = 0; l < num_layers && shape.surplus > 0; ++l) {
    auto& values = terms.surplus.emplace_back();
    for (int k = config.k_min; k <= config.k_max; ++k) values.push_back(surplus(random));
  }
  return terms;
}

class RunningMaximumCases : public testing::TestWithParam<ElasticCase> {};

TEST_P(RunningMaximumCases, AgreesWithEnumeration) {
  const auto& [name, config, num_layers] = GetParam();
  const ElasticLaw law(config, num_layers);
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.name);
    const RunningMaximumTerms terms = terms_of(shape, config, num_layers);
    std::vector<std::pair<double, double>> outcomes;
    for (const auto& [k, probability] : enumerate(config, num_layers)) {
      outcomes.emplace_back(maximum_of(config, terms, k), probability);
    }
    const ValueLaw wanted(outcomes);
    const RunningMaximumLaw found = running_maximum(law, terms);
    EXPECT_EQ(found.rounding, 0);
    // Values are sums of a few numbers near 100: 1e-9 is far above their rounding and far below their distances.
    EXPECT_NEAR(found.values.max(), wanted.max(), 1e-9);
    EXPECT_NEAR(largest_running_maximum(law, terms), wanted.max(), 1e-9);
    for (const double x : wanted.values()) {
      EXPECT_NEAR(found.values.cdf(x + 1e-9), wanted.cdf(x + 1e-9), 1e-12) << x;
      EXPECT_NEAR(found.values.cdf(x - 1e-9), wanted.cdf(x - 1e-9), 1e-12) << x;
    }
    EXPECT_NEAR(found.values.mean(), wanted.mean(), 1e-9);
    EXPECT_NEAR(found.values.std(), wanted.std(), 1e-6);
    for (const double q : {0.05, 0.5, 0.9, 0.99}) {
      EXPECT_NEAR(found.values.quantile(q), wanted.quantile(q), 1e-9);
      EXPECT_NEAR(found.values.quantile_of_maximum(q, 20), wanted.maximum(20).quantile(q), 1e-9);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, RunningMaximumCases, testing::ValuesIn(elastic_cases_in_runs()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(RunningMaximum, BySumRestrictsToEveryBound) {
  const ElasticConfig config = elastic_config(1, 4);
  const RunningMaximumTerms terms = terms_of(kShapes[1], config, 6);
  const RunningMaximumBySum joint = running_maximum_by_sum(ElasticLaw(config, 6), terms);
  EXPECT_EQ(joint.least_sum, 6);
  for (int bound = 6; bound <= 24; ++bound) {
    std::vector<std::pair<double, double>> outcomes;
    for (const auto& row : joint.rows) {
      for (size_t s = 0; s < row.probability.size() && s + 6 <= static_cast<size_t>(bound); ++s) {
        outcomes.emplace_back(row.offset + joint.slope * static_cast<double>(s), row.probability[s]);
      }
    }
    const ValueLaw restricted(outcomes);
    const ElasticConfig budgeted = with_budget(config, BudgetKind::kAtMost, {6}, {bound});
    const ValueLaw direct = running_maximum(ElasticLaw(budgeted, 6), terms).values;
    EXPECT_NEAR(restricted.mean(), direct.mean(), 1e-9);
    for (const double q : {0.1, 0.5, 0.99}) EXPECT_NEAR(restricted.quantile(q), direct.quantile(q), 1e-9);
  }
}

// At 56 layers: kept activations with equal bumps peak in the last layer, so the peak is the sum's law.
TEST(RunningMaximum, LastLayerPeakFollowsTheSum) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {28, 28}, {95, 90});
  const ElasticLaw law(config, 56);
  RunningMaximumTerms terms;
  terms.slope = 1048576;
  for (int l = 0; l < 56; ++l) {
    terms.fixed.push_back(3e6 * l);
    terms.bump.push_back(std::vector<double>(6, 5e7));
  }
  const ValueLaw found = running_maximum(law, terms).values;
  const DiscreteLaw sum = law.sum();
  const double offset = 3e6 * 55 + 5e7;
  for (int64_t v = sum.min(); v <= sum.max(); ++v) {
    EXPECT_NEAR(found.cdf(offset + 1048576 * (static_cast<double>(v) + 0.5)), sum.cdf(v), 1e-12);
  }
  EXPECT_EQ(found.max(), offset + 1048576.0 * 185);
}

// States by the million: maxima are rounded up and the rounding is stated.
TEST(RunningMaximum, StatesItsRoundingWhereStatesAreMerged) {
  constexpr int kLayers = 48;
  const ElasticConfig config = with_budget(elastic_config(1, 16), BudgetKind::kAtMost, {kLayers}, {kLayers * 8});
  std::mt19937 random(3);
  std::uniform_real_distribution<double> noise(0, 100);
  RunningMaximumTerms terms;
  terms.slope = 0.001;
  for (int l = 0; l < kLayers; ++l) {
    terms.fixed.push_back(noise(random));
    auto& bump = terms.bump.emplace_back();
    for (int k = 1; k <= 16; ++k) bump.push_back(noise(random));
  }
  const ElasticLaw law(config, kLayers);
  const RunningMaximumLaw found = running_maximum(law, terms);
  EXPECT_GT(found.rounding, 0);
  EXPECT_LT(found.rounding, 1);
  EXPECT_NEAR(found.values.max(), largest_running_maximum(law, terms), 1e-9);
  // Against slope 0, where few maxima differ: the slope moves no maximum by more than slope * the largest sum.
  RunningMaximumTerms flat = terms;
  flat.slope = 0;
  const ValueLaw near = running_maximum(law, flat).values;
  const double shift = 0.001 * kLayers * 8 + found.rounding;
  for (const double q : {0.1, 0.5, 0.9, 0.99}) {
    EXPECT_GE(found.values.quantile(q), near.quantile(q) - 1e-9);
    EXPECT_LE(found.values.quantile(q), near.quantile(q) + shift + 1e-9);
  }
}

}  // namespace
}  // namespace mmoe
