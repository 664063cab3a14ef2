#include "sim/elastic/budget_tuner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

StageMemory stage_of(const ElasticConfig& config, int num_layers, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> noise(0, 4e8);
  StageMemory stage;
  stage.constant = 2e10 + noise(random);
  stage.terms.slope = 1e9;
  for (int l = 0; l < num_layers; ++l) {
    stage.terms.fixed.push_back(3e8 * l);
    auto& bump = stage.terms.bump.emplace_back();
    for (int k = config.k_min; k <= config.k_max; ++k) bump.push_back(3e8 * k + noise(random));
  }
  return stage;
}

struct Bounded {
  double kl = 0, log_within = 0, sum_k = 0;
};

// P(no stage passes the limit) of one draw and KL, each stage under its own bound, from laws built for that bound.
Bounded with_bounds(const ElasticConfig& config, const std::vector<StageMemory>& stages, const Budget& budget,
                    double limit) {
  Bounded result;
  for (size_t s = 0; s < stages.size(); ++s) {
    ElasticConfig one = config;
    one.budget = Budget{budget.kind, {stages[s].num_layers()}, {budget.sum_k[s]}, {}};
    const ElasticLaw law(one, static_cast<int>(stages[s].num_layers()));
    result.kl += law.kl_divergence();
    result.sum_k += law.sum().mean();
    result.log_within += std::log(running_maximum(law, stages[s].terms).values.cdf(limit - stages[s].constant));
  }
  return result;
}

// Every combination of at_most bounds of two stages, and of exact ones.
TEST(TuneBudget, ChoiceIsTheBestOfAllBounds) {
  const ElasticConfig config = elastic_config(1, 4);
  const std::vector<StageMemory> stages = {stage_of(config, 4, 1), stage_of(config, 3, 2)};
  for (const double limit : {3.2e10, 3.35e10, 3.45e10, 3.6e10}) {
    BudgetGoal goal;
    goal.memory_limit = limit;
    goal.confidence = 0.95;
    goal.horizon_draws = 50;
    double least = INFINITY;
    for (const BudgetKind kind : {BudgetKind::kAtMost, BudgetKind::kExact}) {
      for (int64_t first = 4; first <= 16; ++first) {
        for (int64_t second = 3; second <= 12; ++second) {
          const Bounded bounded = with_bounds(config, stages, {kind, {4, 3}, {first, second}, {}}, limit);
          if (50 * bounded.log_within >= std::log(0.95)) least = std::min(least, bounded.kl);
        }
      }
    }
    const BudgetTuning tuning = tune_budget(config, stages, goal);
    ASSERT_EQ(tuning.choice.has_value(), std::isfinite(least)) << limit;
    if (!tuning.choice) continue;
    EXPECT_NEAR(tuning.choice->kl_divergence, least, 1e-9) << limit;
    const Bounded chosen = with_bounds(config, stages, tuning.choice->budget, limit);
    EXPECT_NEAR(chosen.kl, tuning.choice->kl_divergence, 1e-9);
    EXPECT_NEAR(tuning.choice->probability_within_limit, std::exp(50 * chosen.log_within), 1e-9);
    EXPECT_GE(tuning.choice->probability_within_limit, 0.95);
    EXPECT_LE(tuning.choice->peak, limit);
    const double free_sum_k = (4 + 3) * 2.5;
    EXPECT_NEAR(tuning.choice->expected_sum_fraction, chosen.sum_k / free_sum_k, 1e-12);
  }
}

TEST(TuneBudget, SavingsAreAgainstTheThreeBaselines) {
  const ElasticConfig config = elastic_config(1, 6);
  const StageMemory stage = stage_of(config, 8, 3);
  BudgetGoal goal;
  goal.saving = 0.1;
  goal.horizon_draws = 4000;
  goal.step_draws = 4;
  const BudgetTuning tuning = tune_budget(config, {stage}, goal);
  const ValueLaw free = running_maximum(ElasticLaw(config, 8), stage.terms).values.scaled(1, stage.constant);
  EXPECT_NEAR(tuning.free_peak, free.quantile_of_maximum(0.99, 4000), 1);
  EXPECT_NEAR(tuning.free_mean_peak, free.maximum(4).mean(), 1);
  EXPECT_NEAR(tuning.free_largest_peak, free.max(), 1);
  EXPECT_NEAR(tuning.limit, 0.9 * tuning.free_peak, 1);
  ASSERT_TRUE(tuning.choice);
  EXPECT_TRUE(tuning.budget_needed);
  const Saving& saving = tuning.choice->saving;
  EXPECT_GE(saving.p99, 0.1);
  EXPECT_NEAR(saving.p99, 1 - tuning.choice->peak / tuning.free_peak, 1e-12);
  EXPECT_NEAR(saving.mean, 1 - tuning.choice->peak / tuning.free_mean_peak, 1e-12);
  EXPECT_NEAR(saving.k_max, 1 - tuning.choice->peak / tuning.free_largest_peak, 1e-12);
  ElasticConfig budgeted = config;
  budgeted.budget = tuning.choice->budget;
  const ValueLaw law = running_maximum(ElasticLaw(budgeted, 8), stage.terms).values.scaled(1, stage.constant);
  EXPECT_NEAR(tuning.choice->peak, law.quantile_of_maximum(0.99, 4000), 1);
}

TEST(TuneBudget, FrontHasNoBeatenPoint) {
  const ElasticConfig config = elastic_config(1, 5, Granularity::kLayer, Sampling::kCapacityWeighted, 1.5);
  BudgetGoal goal;
  goal.saving = 0.05;
  goal.horizon_draws = 1000;
  const BudgetTuning tuning = tune_budget(config, {stage_of(config, 6, 4), stage_of(config, 6, 5)}, goal);
  ASSERT_GT(tuning.front.size(), 5u);
  for (const TunedBudget& a : tuning.front) {
    for (const TunedBudget& b : tuning.front) {
      const bool no_worse =
          a.peak <= b.peak && a.kl_divergence <= b.kl_divergence && a.expected_sum_fraction >= b.expected_sum_fraction;
      EXPECT_TRUE(&a == &b || !no_worse) << a.kl_divergence << " nats, " << a.peak;
    }
  }
  EXPECT_EQ(tuning.front.back().kl_divergence, 0);  // the free law itself
}

// Bounds by hand: the same bound for all stages. Stages differ, so tuning each keeps more diversity.
TEST(TuneBudget, BeatsOneBoundForAllStages) {
  const ElasticConfig config = elastic_config(1, 6);
  std::vector<StageMemory> stages;
  for (unsigned s = 0; s < 4; ++s) {
    stages.push_back(stage_of(config, 4, s));
    stages.back().constant += 1.5e9 * s;
  }
  BudgetGoal goal;
  goal.memory_limit = 4.6e10;
  goal.horizon_draws = 100;
  double by_hand = INFINITY;
  for (int64_t bound = 4; bound <= 24; ++bound) {
    const Budget budget{BudgetKind::kAtMost, {4, 4, 4, 4}, {bound, bound, bound, bound}, {}};
    const Bounded bounded = with_bounds(config, stages, budget, *goal.memory_limit);
    if (100 * bounded.log_within >= std::log(0.99)) by_hand = std::min(by_hand, bounded.kl);
  }
  const BudgetTuning tuning = tune_budget(config, stages, goal);
  ASSERT_TRUE(tuning.choice && std::isfinite(by_hand));
  EXPECT_LT(tuning.choice->kl_divergence, 0.8 * by_hand);
}

TEST(TuneBudget, OneKForAllLayers) {
  const ElasticConfig config = elastic_config(1, 6, Granularity::kMicroBatch);
  StageMemory stage;
  stage.constant = 100;
  stage.terms = {{0, 0, 0}, 10, LayerCosts(3, std::vector<double>(6, 0))};
  BudgetGoal goal;
  goal.memory_limit = 100 + 10 * 3 * 4 + 5;
  goal.horizon_draws = 1e6;
  const BudgetTuning tuning = tune_budget(config, {stage}, goal);
  ASSERT_TRUE(tuning.choice);
  EXPECT_EQ(tuning.choice->budget.kind, BudgetKind::kAtMost);
  EXPECT_EQ(tuning.choice->budget.sum_k, std::vector<int64_t>{12});
  EXPECT_NEAR(tuning.choice->kl_divergence, std::log(6.0 / 4), 1e-12);
  EXPECT_NEAR(tuning.choice->expected_sum_fraction, 2.5 / 3.5, 1e-12);
  EXPECT_EQ(tuning.choice->peak, 220);
}

TEST(TuneBudget, LooseLimitsNeedNoBudgetAndTightOnesHaveNone) {
  const ElasticConfig config = elastic_config(1, 6);
  const StageMemory stage = stage_of(config, 5, 9);
  BudgetGoal goal;
  goal.memory_limit = 1e12;
  goal.horizon_draws = 1e6;
  const BudgetTuning loose = tune_budget(config, {stage}, goal);
  EXPECT_FALSE(loose.budget_needed);
  ASSERT_TRUE(loose.choice);
  EXPECT_EQ(loose.choice->kl_divergence, 0);
  EXPECT_EQ(loose.choice->budget.sum_k, std::vector<int64_t>{30});
  goal.memory_limit = 1e10;
  const BudgetTuning tight = tune_budget(config, {stage}, goal);
  EXPECT_FALSE(tight.choice);
  EXPECT_NE(tight.reason.find("k = 1 in every MoE layer"), std::string::npos) << tight.reason;
  EXPECT_FALSE(tight.front.empty());
}

TEST(TuneBudget, OneChoiceHasOneBudget) {
  const ElasticConfig config = elastic_config(2, 2);
  const StageMemory stage = stage_of(config, 5, 9);
  BudgetGoal goal;
  goal.saving = 0.01;
  const BudgetTuning tuning = tune_budget(config, {stage}, goal);
  EXPECT_FALSE(tuning.choice);
  EXPECT_EQ(tuning.free_peak, tuning.free_largest_peak);
}

// Two devices with the same draws and loads of their own, of no straight line in k: by enumeration, a draw's risk is
// the sum of the devices' and no less than that of the higher of them.
TEST(TuneBudget, CountsEveryDeviceThatSharesTheDraws) {
  const ElasticConfig config = elastic_config(1, 4);
  StageMemory stage = stage_of(config, 4, 1);
  std::mt19937 random(5);
  std::uniform_real_distribution<double> bytes(-5e8, 1e9);
  stage.others.push_back(stage.terms);
  for (RunningMaximumTerms* terms : {&stage.terms, &stage.others[0]}) {
    terms->surplus.assign(4, std::vector<double>(4));
    for (auto& layer : terms->surplus) {
      for (double& surplus : layer) surplus = bytes(random);
    }
  }
  const auto peak_of = [&](const RunningMaximumTerms& terms, const std::vector<int>& k) {
    double kept = 0, highest = 0;
    for (size_t l = 0; l < 4; ++l) {
      const auto j = static_cast<size_t>(k[l] - 1);
      kept += terms.slope * k[l] + terms.surplus[l][j];
      highest = std::max(highest, stage.constant + terms.fixed[l] + kept + terms.bump[l][j]);
    }
    return highest;
  };
  BudgetGoal goal;
  goal.memory_limit = 3.5e10;
  goal.horizon_draws = 50;
  for (const double confidence : {0.5, 0.9}) {
    goal.confidence = confidence;
    const BudgetTuning tuning = tune_budget(config, {stage}, goal);
    ASSERT_TRUE(tuning.choice && tuning.budget_needed);
    double largest = 0, within = 0;
    for (const auto& [k, probability] : enumerate(config, 4)) {
      largest = std::max({largest, peak_of(stage.terms, k), peak_of(stage.others[0], k)});
    }
    EXPECT_NEAR(tuning.free_largest_peak, largest, 1e-3);  // rounding of sums of some 1e10 bytes
    double first = 0, second = 0;
    ElasticConfig budgeted = config;
    budgeted.budget = tuning.choice->budget;
    for (const auto& [k, probability] : enumerate(budgeted, 4)) {
      const bool passes_first = peak_of(stage.terms, k) > 3.5e10, passes_second = peak_of(stage.others[0], k) > 3.5e10;
      first += passes_first ? probability : 0;
      second += passes_second ? probability : 0;
      within += passes_first || passes_second ? 0 : probability;
    }
    EXPECT_NEAR(tuning.choice->probability_within_limit, std::pow(1 - first - second, 50), 1e-9);
    EXPECT_LE(tuning.choice->probability_within_limit, std::pow(within, 50) + 1e-9);
    EXPECT_GE(tuning.choice->probability_within_limit, confidence);
  }
}

}  // namespace
}  // namespace mmoe
