#include "sim/elastic/budget_cut.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "sim/elastic/elastic_law.h"
#include "sim/elastic/sampler.h"
#include "sim/units/errors.h"
#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

ElasticConfig with_method(ElasticConfig config, BudgetMethod method) {
  config.budget->method = method;
  return config;
}

TEST(CutDraw, ClipStarvesTheLateLayers) {
  std::vector<int> extra = {3, 5, 0, 2};
  cut_draw(BudgetMethod::kClip, 6, extra);
  EXPECT_EQ(extra, (std::vector<int>{3, 3, 0, 0}));
}

TEST(CutDraw, RescaleRoundsDownAndLeavesDrawsWithinTheBound) {
  std::vector<int> extra = {3, 5, 0, 2};
  cut_draw(BudgetMethod::kRescale, 6, extra);
  EXPECT_EQ(extra, (std::vector<int>{1, 3, 0, 1}));  // 1.8, 3, 0, 1.2
  cut_draw(BudgetMethod::kRescale, 6, extra);
  EXPECT_EQ(extra, (std::vector<int>{1, 3, 0, 1}));
}

struct CutCase {
  const char* name;
  ElasticConfig config;
  int num_layers;
};

std::vector<CutCase> cut_cases() {
  const ElasticConfig uniform = elastic_config(1, 4);
  const ElasticConfig weighted = elastic_config(2, 5, Granularity::kLayer, Sampling::kCapacityWeighted, 0.7);
  std::vector<CutCase> cases;
  for (const BudgetMethod method : {BudgetMethod::kClip, BudgetMethod::kRescale}) {
    const bool clip = method == BudgetMethod::kClip;
    const auto add = [&](const char* name, const ElasticConfig& config, int num_layers) {
      cases.push_back({name, with_method(config, method), num_layers});
    };
    add(clip ? "clip" : "rescale", with_budget(uniform, BudgetKind::kAtMost, {5}, {11}), 5);
    add(clip ? "clip_least" : "rescale_least", with_budget(uniform, BudgetKind::kAtMost, {4}, {4}), 4);
    add(clip ? "clip_loose" : "rescale_loose", with_budget(uniform, BudgetKind::kAtMost, {4}, {16}), 4);
    add(clip ? "clip_groups" : "rescale_groups", with_budget(weighted, BudgetKind::kAtMost, {2, 3}, {6, 9}), 5);
    add(clip ? "clip_one_layer" : "rescale_one_layer", with_budget(uniform, BudgetKind::kAtMost, {1}, {2}), 1);
  }
  return cases;
}

class CutCases : public testing::TestWithParam<CutCase> {};

// Sums of at most 4^5 products of 5 probabilities: rounding stays below 1e-12.
TEST_P(CutCases, LawIsThatOfEveryDrawCut) {
  const auto& [name, config, num_layers] = GetParam();
  ElasticConfig free = config;
  free.budget.reset();
  const auto groups = config.budget->group_layers();
  std::vector<std::vector<double>> marginals(static_cast<size_t>(num_layers),
                                             std::vector<double>(static_cast<size_t>(config.k_max) + 1));
  std::vector<std::vector<double>> sums(groups.size(), std::vector<double>(64));
  for (const auto& [draw, probability] : enumerate(free, num_layers)) {
    for (size_t g = 0; g < groups.size(); ++g) {
      std::vector<int> extra;
      for (const int64_t layer : groups[g]) extra.push_back(draw[static_cast<size_t>(layer)] - config.k_min);
      const auto size = static_cast<int64_t>(extra.size());
      cut_draw(config.budget->method, config.budget->sum_k[g] - size * config.k_min, extra);
      const int64_t sum = std::accumulate(extra.begin(), extra.end(), size * config.k_min);
      ASSERT_LE(sum, config.budget->sum_k[g]);
      sums[g][static_cast<size_t>(sum)] += probability;
      for (size_t i = 0; i < extra.size(); ++i) {
        marginals[static_cast<size_t>(groups[g][i])][static_cast<size_t>(extra[i] + config.k_min)] += probability;
      }
    }
  }
  const CutLaw law = cut_law(config, num_layers);
  ASSERT_EQ(law.marginals.size(), marginals.size());
  for (size_t l = 0; l < marginals.size(); ++l) {
    for (int k = config.k_min; k <= config.k_max; ++k) {
      EXPECT_NEAR(law.marginals[l].probability(k), marginals[l][static_cast<size_t>(k)], 1e-12) << l << ' ' << k;
    }
  }
  ASSERT_EQ(law.sums.size(), sums.size());
  for (size_t g = 0; g < sums.size(); ++g) {
    for (int64_t s = 0; s < 64; ++s) {
      EXPECT_NEAR(law.sums[g].probability(s), sums[g][static_cast<size_t>(s)], 1e-12) << g << ' ' << s;
    }
  }
}

TEST_P(CutCases, SamplerCutsTheFreeDraw) {
  const auto& [name, config, num_layers] = GetParam();
  ElasticConfig free = config;
  free.budget.reset();
  const KSampler sampler(config, num_layers), free_sampler(free, num_layers);
  const auto groups = config.budget->group_layers();
  for (int step = 0; step < 100; ++step) {
    std::vector<int> k = free_sampler.draw(5, step, 1);
    for (size_t g = 0; g < groups.size(); ++g) {
      std::vector<int> extra;
      for (const int64_t layer : groups[g]) extra.push_back(k[static_cast<size_t>(layer)] - config.k_min);
      cut_draw(config.budget->method, config.budget->sum_k[g] - static_cast<int64_t>(extra.size()) * config.k_min,
               extra);
      for (size_t i = 0; i < extra.size(); ++i) k[static_cast<size_t>(groups[g][i])] = extra[i] + config.k_min;
    }
    EXPECT_EQ(sampler.draw(5, step, 1), k);
  }
}

TEST_P(CutCases, PredictionsRefuseThem) {
  EXPECT_THROW(ElasticLaw(GetParam().config, GetParam().num_layers), ConfigError);
}

INSTANTIATE_TEST_SUITE_P(, CutCases, testing::ValuesIn(cut_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace mmoe
