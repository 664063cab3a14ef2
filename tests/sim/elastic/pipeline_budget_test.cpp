#include "sim/elastic/pipeline_budget.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

std::vector<double> straight(double slope, int choices = 6) {
  std::vector<double> added;
  for (int k = 0; k < choices; ++k) added.push_back(slope * k);
  return added;
}

// 1F1B: stage s of `ranks` holds ranks - s micro-batches.
std::vector<PipelineStage> pipeline(int ranks, int64_t layers, double slope = 1e8) {
  std::vector<PipelineStage> stages;
  for (int s = 0; s < ranks; ++s) {
    stages.push_back({.at_least = 2e10 + 1e8 * s, .added = straight(slope), .chunks = {{layers, ranks - s}}});
  }
  return stages;
}

PipelinePasses passes_of(int64_t ranks, int64_t micro_batches, int64_t chunks = 1) {
  return pipeline_passes(
      {.schedule = chunks > 1 ? PipelineSchedule::kInterleaved : PipelineSchedule::kOneForwardOneBackward,
       .pipeline = ranks,
       .virtual_pipeline = chunks,
       .num_micro_batches = micro_batches});
}

std::vector<std::span<const Pass>> orders_of(const PipelinePasses& passes) {
  std::vector<std::span<const Pass>> orders;
  for (int64_t rank = 0; rank < passes.shape.pipeline; ++rank) orders.push_back(passes.of_rank(rank));
  return orders;
}

DiscreteLaw in_flight_sum(const ElasticConfig& config, const PipelineStage& stage, BudgetKind kind, int64_t bound) {
  return DrawSum(config, stage.in_flight(), kMostCells).cells(kind, bound);
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
      one[static_cast<size_t>(k[0] + k[1] + k[2] + k[3] - 4)] += p;
      first[static_cast<size_t>(k[0] - 1)] += p;
      second[static_cast<size_t>(k[1] + k[2] + k[3] - 3)] += p;
    }
    for (size_t a = 0; a < 13; ++a) {
      for (size_t b = 0; b < 13; ++b) {
        two[a + b] += one[a] * one[b];
        for (size_t c = 0; c < 13; ++c) chunks[a + b + c] += first[a] * first[b] * second[c];
      }
    }
    const DiscreteLaw whole = in_flight_sum(free, {0, straight(1, 3), {{4, 2}}}, kind, 8);
    const DiscreteLaw split = in_flight_sum(free, {0, straight(1, 3), {{1, 2}, {3, 1}}}, kind, 8);
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
  const PipelinePasses passes = passes_of(4, 32);
  ASSERT_TRUE(tuning.choice);
  EXPECT_GE(tuning.choice->saving.p99, 0.1);
  EXPECT_LE(tuning.choice->peak, tuning.limit);
  ASSERT_EQ(tuning.choice->budget.sum_k.size(), 4u);
  for (const TunedBudget& budget : tuning.front) {
    if (budget.budget.kind != BudgetKind::kAtMost || budget.probability_within_limit < 0.99) continue;
    // The sliding sum's own law is milder than that of independent windows, which the promise is made with.
    const auto passing = passing_probability(config, stages, orders_of(passes), goal, budget.budget, tuning.limit);
    ASSERT_TRUE(passing);
    EXPECT_LE(passing->value, 1 - budget.probability_within_limit + 5 * passing->standard_error);
  }
}

// One stage with one micro-batch in flight: the largest of independent sums, in closed form.
TEST(PassingProbability, OneInFlightIsTheLargestOfAllDraws) {
  const ElasticConfig config = elastic_config(1, 6);
  PipelineGoal goal = goal_of(0.1);
  goal.steps = 3;
  const Budget budget{BudgetKind::kAtMost, {8}, {40}, {}};
  const std::vector<PipelineStage> stages = {{0, straight(1), {{8, 1}}}};
  const PipelinePasses passes = passes_of(1, 32);
  const auto passing = passing_probability(config, stages, orders_of(passes), goal, budget, 30);
  const double within = in_flight_sum(config, stages.front(), BudgetKind::kAtMost, 40).cdf(30);
  ASSERT_TRUE(passing);
  EXPECT_EQ(passing->standard_error, 0);
  EXPECT_NEAR(passing->value, 1 - std::pow(within, 3 * 8 * 32), 1e-12);
}

// Interleaved stages: every forward pass that a backward pass follows is a height, and independent heights bound the
// law of the highest.
TEST(PassingProbability, OfInterleavedStagesIsBelowThatOfIndependentWindows) {
  const ElasticConfig config = elastic_config(1, 6);
  const PipelinePasses passes = passes_of(2, 16, 2);
  const std::vector<PipelineStage> stages = {{2e10, straight(1e8), {{4, 3}, {4, 2}}},
                                             {2e10, straight(1e8), {{4, 2}, {4, 1}}}};
  EXPECT_EQ(stages[0].windows(16), 28);  // 32 forward passes, of which four come before the first height
  EXPECT_EQ(stages[1].windows(16), 30);
  PipelineGoal goal = goal_of(0.1);
  goal.num_micro_batches = 16;
  const BudgetTuning tuning = tune_pipeline_budget(config, stages, goal);
  ASSERT_FALSE(tuning.front.empty());
  int compared = 0;
  for (const TunedBudget& budget : tuning.front) {
    const auto passing = passing_probability(config, stages, orders_of(passes), goal, budget.budget, tuning.limit);
    ASSERT_TRUE(passing);
    EXPECT_LE(passing->value, 1 - budget.probability_within_limit + 5 * passing->standard_error);
    compared += passing->value > 0;
  }
  EXPECT_GT(compared, 0);
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
        if (stage.at_least + stage.added[1] * static_cast<double>(v) > tuning.limit) {
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
  PipelineStage chunks{2e10, straight(1e8), {{4, 4}, {4, 2}}};
  const BudgetTuning interleaved = tune_pipeline_budget(elastic_config(1, 6), {chunks}, goal_of(0.1));
  for (const TunedBudget& budget : interleaved.front) EXPECT_NE(budget.budget.kind, BudgetKind::kWindow);
  // One micro-batch in flight is bounded by at_most.
  const BudgetTuning alone = tune_pipeline_budget(elastic_config(1, 6), pipeline(1, 8), goal_of(0.05));
  for (const TunedBudget& budget : alone.front) EXPECT_NE(budget.budget.kind, BudgetKind::kWindow);
}

// Bytes that rise ever less with k: a straight line between the ends would promise a peak that draws between them pass.
TEST(TunePipelineBudget, CountsEveryKForItself) {
  const ElasticConfig config = elastic_config(1, 6);
  const std::vector<double> concave = {0, 4e8, 6e8, 7e8, 8e8, 9e8};
  const std::vector<PipelineStage> stages = {{2e10, concave, {{3, 1}}}};
  PipelineGoal goal = goal_of(0.03);
  goal.replicas = 1;
  goal.num_micro_batches = 1;
  const BudgetTuning tuning = tune_pipeline_budget(config, stages, goal);
  const auto promised = [&](const Budget& budget, double limit) {
    double within = 0;
    for (const auto& [k, p] : enumerate(with_budget(config, budget.kind, {3}, budget.sum_k), 3)) {
      double bytes = 2e10;
      for (const int one : k) bytes += concave[static_cast<size_t>(one - 1)];
      within += bytes <= limit ? p : 0;
    }
    return std::pow(within, goal.steps);
  };
  ASSERT_TRUE(tuning.choice && tuning.budget_needed);
  for (const TunedBudget& budget : tuning.front) {
    if (budget.budget.kind == BudgetKind::kWindow) continue;
    EXPECT_NEAR(budget.probability_within_limit, promised(budget.budget, tuning.limit), 1e-9);
  }
  EXPECT_GE(promised(tuning.choice->budget, tuning.limit), 0.99);
  const std::vector<PipelineStage> line = {{2e10, straight(9e8 / 5), {{3, 1}}}};
  const BudgetTuning wrong = tune_pipeline_budget(config, line, goal);
  ASSERT_TRUE(wrong.choice);
  EXPECT_LT(promised(wrong.choice->budget, wrong.limit), 0.5);
}

// Rows from another replica's experts: the rank's own k and the other's each add their part.
TEST(TunePipelineBudget, CountsOtherReplicasByTheirOwnDraws) {
  const ElasticConfig config = elastic_config(1, 4);
  const std::vector<PipelineStage> stages = {
      {.at_least = 1000, .added = {0, 50, 80, 100}, .chunks = {{2, 1}}, .others = 1, .from_other = {0, 20, 30, 40}}};
  PipelineGoal goal = goal_of(0.05);
  goal.steps = 5;
  goal.replicas = 1;
  goal.num_micro_batches = 3;
  const PipelinePasses passes = passes_of(1, 3);
  const BudgetTuning tuning = tune_pipeline_budget(config, stages, goal);
  ASSERT_TRUE(tuning.choice && tuning.budget_needed);
  for (const TunedBudget& budget : tuning.front) {
    if (budget.budget.kind == BudgetKind::kWindow) continue;
    const auto draws = enumerate(with_budget(config, budget.budget.kind, {2}, budget.budget.sum_k), 2);
    double within = 0;
    for (const auto& [a, p] : draws) {
      for (const auto& [b, q] : draws) {
        double bytes = 1000;
        for (size_t l = 0; l < 2; ++l) {
          const auto own = static_cast<size_t>(a[l] - 1), other = static_cast<size_t>(b[l] - 1);
          bytes += stages[0].added[own] - stages[0].from_other[own] + stages[0].from_other[other];
        }
        within += bytes <= tuning.limit ? p * q : 0;
      }
    }
    EXPECT_NEAR(budget.probability_within_limit, std::pow(within, 15), 1e-12);
    const auto passing = passing_probability(config, stages, orders_of(passes), goal, budget.budget, tuning.limit);
    ASSERT_TRUE(passing);
    EXPECT_NEAR(passing->value, 1 - std::pow(within, 15), 1e-12);
  }
}

// Two replicas of two layers whose rank adds its own draw's bytes and what both send, at one of two moments.
TEST(TuneGroupBudget, IsTheLawOverTheDrawsOfAllReplicas) {
  const ElasticConfig config = elastic_config(1, 4);
  const LayerCosts own = {{0, 30, 60, 90}, {0, 40, 80, 120}}, other = {{0, 20, 40, 60}, {0, 20, 40, 60}};
  const LayerCosts early = {{0, 70, 140, 210}, {0, 0, 0, 0}}, early_other = {{0, 30, 60, 90}, {0, 0, 0, 0}};
  GroupMemory group{.num_layers = 2, .least = 1000, .peaks = {{1000, {{own, 1}, {other, 1}}, 1}}};
  PipelineGoal goal = goal_of(0.05);
  goal.steps = 5;
  goal.replicas = 1;
  goal.num_micro_batches = 3;
  const auto within = [&](const Budget& budget, double limit, bool both) {
    const auto draws = enumerate(with_budget(config, budget.kind, {2}, budget.sum_k), 2);
    double sum = 0;
    for (const auto& [a, p] : draws) {
      for (const auto& [b, q] : draws) {
        double late = 1000, first = 1000;
        for (size_t l = 0; l < 2; ++l) {
          late += own[l][static_cast<size_t>(a[l] - 1)] + other[l][static_cast<size_t>(b[l] - 1)];
          first += early[l][static_cast<size_t>(a[l] - 1)] + early_other[l][static_cast<size_t>(b[l] - 1)];
        }
        sum += (both ? std::max(late, first) : late) <= limit ? p * q : 0;
      }
    }
    return std::pow(sum, 15);
  };
  const BudgetTuning one = tune_group_budget(config, group, goal);
  ASSERT_TRUE(one.choice && one.budget_needed);
  for (const TunedBudget& budget : one.front) {
    EXPECT_NEAR(budget.probability_within_limit, within(budget.budget, one.limit, false), 1e-12);
  }
  // Of two moments the sum of both probabilities counts: no promise is above the truth.
  group.peaks.push_back({1000, {{early, 1}, {early_other, 1}}, 1});
  const BudgetTuning two = tune_group_budget(config, group, goal);
  ASSERT_TRUE(two.choice);
  bool milder = false;
  for (const TunedBudget& budget : two.front) {
    const double truth = within(budget.budget, two.limit, true);
    EXPECT_LE(budget.probability_within_limit, truth + 1e-12);
    milder |= budget.probability_within_limit < truth - 1e-6;
  }
  EXPECT_GE(within(two.choice->budget, two.limit, true), 0.99);
  EXPECT_TRUE(milder);
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
