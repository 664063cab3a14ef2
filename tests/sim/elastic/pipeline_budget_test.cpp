#include "sim/elastic/pipeline_budget.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

// 1F1B: stage s of `ranks` holds ranks - s micro-batches.
std::vector<PipelineStage> pipeline(int ranks, int64_t layers, double slope = 1e8) {
  std::vector<PipelineStage> stages;
  for (int s = 0; s < ranks; ++s) {
    stages.push_back({.at_least = 2e10 + 1e8 * s, .slope = slope, .chunks = {{layers, ranks - s}}});
  }
  return stages;
}

PipelineGoal goal_of(double saving) {
  PipelineGoal goal;
  goal.saving = saving;
  goal.steps = 1000;
  goal.replicas = 8;
  goal.num_micro_batches = 32;
  return goal;
}

// Sums of the chunks of one micro-batch each, from all draws that keep the bound.
TEST(InFlightSum, AgreesWithEnumeration) {
  const ElasticConfig free = elastic_config(1, 3, Granularity::kLayer, Sampling::kCapacityWeighted, 1.5);
  for (const BudgetKind kind : {BudgetKind::kAtMost, BudgetKind::kExact}) {
    const auto draws = enumerate(with_budget(free, kind, {4}, {8}), 4);
    std::vector<double> one(13, 0.0), first(13, 0.0), second(13, 0.0), two(40, 0.0), chunks(40, 0.0);
    for (const auto& [k, p] : draws) {
      one[static_cast<size_t>(k[0] + k[1] + k[2] + k[3])] += p;
      first[static_cast<size_t>(k[0])] += p;
      second[static_cast<size_t>(k[1] + k[2] + k[3])] += p;
    }
    for (size_t a = 0; a < 13; ++a) {
      for (size_t b = 0; b < 13; ++b) {
        two[a + b] += one[a] * one[b];
        for (size_t c = 0; c < 13; ++c) chunks[a + b + c] += first[a] * first[b] * second[c];
      }
    }
    const DiscreteLaw whole = in_flight_sum(free, {0, 1, {{4, 2}}}, kind, 8);
    const DiscreteLaw split = in_flight_sum(free, {0, 1, {{1, 2}, {3, 1}}}, kind, 8);
    for (int64_t v = 0; v < 40; ++v) {
      EXPECT_NEAR(whole.probability(v), two[static_cast<size_t>(v)], 1e-13) << v;
      EXPECT_NEAR(split.probability(v), chunks[static_cast<size_t>(v)], 1e-13) << v;
    }
  }
}

TEST(TunePipelineBudget, KeepsItsPromiseInEveryWindowOfEveryStage) {
  const ElasticConfig config = elastic_config(1, 6);
  const std::vector<PipelineStage> stages = pipeline(4, 8);
  const PipelineGoal goal = goal_of(0.1);
  const BudgetTuning tuning = tune_pipeline_budget(config, stages, goal);
  ASSERT_TRUE(tuning.choice);
  EXPECT_GE(tuning.choice->saving.p99, 0.1);
  EXPECT_LE(tuning.choice->peak, tuning.limit);
  ASSERT_EQ(tuning.choice->budget.sum_k.size(), 4u);
  for (const TunedBudget& budget : tuning.front) {
    if (budget.budget.kind != BudgetKind::kAtMost || budget.probability_within_limit < 0.99) continue;
    // The sliding sum's own law is milder than that of independent windows, which the promise is made with.
    const TailProbability passing = passing_probability(config, stages, goal, budget.budget, tuning.limit);
    EXPECT_LE(passing.value, 1 - budget.probability_within_limit + 5 * passing.standard_error);
  }
}

// One stage with one micro-batch in flight: the largest of independent sums, in closed form.
TEST(PassingProbability, OneInFlightIsTheLargestOfAllDraws) {
  const ElasticConfig config = elastic_config(1, 6);
  PipelineGoal goal = goal_of(0.1);
  goal.steps = 3;
  const Budget budget{BudgetKind::kAtMost, {8}, {40}, {}};
  const TailProbability passing = passing_probability(config, {{0, 1, {{8, 1}}}}, goal, budget, 38 - 8);
  DiscreteLaw one = in_flight_sum(config, {0, 1, {{8, 1}}}, BudgetKind::kAtMost, 40);
  const double within = one.cdf(38);
  EXPECT_EQ(passing.standard_error, 0);
  EXPECT_NEAR(passing.value, 1 - std::pow(within, 3 * 8 * 32), 1e-12);
}

// By hand: one bound for all stages. Only the first stages hold enough micro-batches to need one.
TEST(TunePipelineBudget, BeatsOneBoundForAllStages) {
  const ElasticConfig config = elastic_config(1, 6);
  const std::vector<PipelineStage> stages = pipeline(4, 8);
  const PipelineGoal goal = goal_of(0.1);
  const BudgetTuning tuning = tune_pipeline_budget(config, stages, goal);
  const DiscreteLaw free = DiscreteLaw(1, std::vector<double>(6, 1.0)).sum_of(8);
  double by_hand = INFINITY;
  for (int64_t bound = 8; bound <= 48; ++bound) {
    double log_within = 0;
    for (const PipelineStage& stage : stages) {
      const DiscreteLaw sum = in_flight_sum(config, stage, BudgetKind::kAtMost, bound);
      double tail = 0;
      for (int64_t v = sum.max(); v >= sum.min(); --v) {
        if (stage.at_least + stage.slope * static_cast<double>(v - 8 * stage.width()) > tuning.limit) {
          tail += sum.probability(v);
        }
      }
      const auto windows = static_cast<double>(goal.num_micro_batches - stage.width() + 1);
      log_within += goal.steps * goal.replicas * windows * std::log1p(-std::min(tail, 1.0));
    }
    if (log_within >= std::log(0.99)) by_hand = std::min(by_hand, -4 * std::log(free.cdf(bound)));
  }
  ASSERT_TRUE(tuning.choice && std::isfinite(by_hand));
  EXPECT_LT(tuning.choice->kl_divergence, 0.6 * by_hand);
}

TEST(TunePipelineBudget, FrontHasNoBeatenPointAndAllKindsCompete) {
  const BudgetTuning tuning = tune_pipeline_budget(elastic_config(1, 6), pipeline(4, 8), goal_of(0.1));
  ASSERT_GT(tuning.front.size(), 5u);
  for (const TunedBudget& a : tuning.front) {
    for (const TunedBudget& b : tuning.front) {
      const bool no_worse =
          a.peak <= b.peak && a.kl_divergence <= b.kl_divergence && a.expected_sum_fraction >= b.expected_sum_fraction;
      EXPECT_TRUE(&a == &b || !no_worse);
    }
  }
  // Stages of two chunks have no window.
  PipelineStage chunks{2e10, 1e8, {{4, 4}, {4, 2}}};
  const BudgetTuning interleaved = tune_pipeline_budget(elastic_config(1, 6), {chunks}, goal_of(0.1));
  for (const TunedBudget& budget : interleaved.front) EXPECT_NE(budget.budget.kind, BudgetKind::kWindow);
}

TEST(TunePipelineBudget, LooseLimitsNeedNoBudgetAndTightOnesHaveNone) {
  PipelineGoal goal = goal_of(0.1);
  goal.saving.reset();
  goal.memory_limit = 1e12;
  const BudgetTuning loose = tune_pipeline_budget(elastic_config(1, 6), pipeline(2, 4), goal);
  EXPECT_FALSE(loose.budget_needed);
  ASSERT_TRUE(loose.choice);
  EXPECT_EQ(loose.choice->kl_divergence, 0);
  goal.memory_limit = 1.9e10;
  const BudgetTuning tight = tune_pipeline_budget(elastic_config(1, 6), pipeline(2, 4), goal);
  EXPECT_FALSE(tight.choice);
  EXPECT_NE(tight.reason.find("k = 1 in every MoE layer"), std::string::npos) << tight.reason;
}

}  // namespace
}  // namespace mmoe
