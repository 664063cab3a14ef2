#include "sim/search/plan_search.h"

#include <gtest/gtest.h>

#include "tests/sim/memory/memory_testing.h"

namespace mmoe {
namespace {

// What the job gives for the searched keys is pinned, so they are taken out of `given` to leave them open.
Job open_job(const std::string& changes = "{}") {
  Job job = small_memory_job(changes);
  job.given.erase("training.micro_batch_size");
  return job;
}

PlanSearchResult search(const Job& job, BudgetSearch budget = BudgetSearch::kOff) {
  return search_plans(job, default_calibration(job.hardware.spec), 0.99, budget);
}

TEST(PlanSearch, TriesEveryMicroBatchAndRecomputation) {
  const PlanSearchResult result = search(open_job());
  EXPECT_EQ(result.evaluated, 4 * (2 + 2 * 3));  // 1, 2, 4, 8; full, moe; none, attention with all, lean, recompute
  EXPECT_EQ(result.candidates.size(), 32u);
  for (size_t i = 1; i < result.candidates.size(); ++i) {
    EXPECT_LE(result.candidates[i - 1].plan.throughput.step, result.candidates[i].plan.throughput.step);
  }
}

TEST(PlanSearch, WhatIsGivenStays) {
  EXPECT_EQ(search(small_memory_job(R"({"training": {"recompute": "none", "expert_saving": "all"}})")).evaluated, 1);
  const PlanSearchResult result = search(small_memory_job(R"({"training": {"recompute": "full"}})"));
  ASSERT_EQ(result.candidates.size(), 1u);
  EXPECT_EQ(result.candidates[0].plan.job.training.micro_batch_size, 4);
  EXPECT_TRUE(result.candidates[0].plan.job.training.recompute.full);
}

TEST(PlanSearch, FrontHasNoDominatedCandidate) {
  const PlanSearchResult result = search(open_job());
  int front = 0;
  for (const PlanCandidate& a : result.candidates) {
    if (!a.on_front) continue;
    ++front;
    for (const PlanCandidate& b : result.candidates) {
      EXPECT_FALSE(b.plan.throughput.step < a.plan.throughput.step && b.plan.memory.total() < a.plan.memory.total());
    }
  }
  EXPECT_GE(front, 2);
}

TEST(PlanSearch, ABudgetIsSearchedOnlyWhenAskedAndStandsBehindTheOwnLaw) {
  const Job roomy = small_memory_job();
  const double worst = simulate(roomy, default_calibration(roomy.hardware.spec)).memory.total().value;
  Job job = small_memory_job(R"({"training": {"recompute": "none", "expert_saving": "lean"}})");
  job.hardware.usable_memory = Bytes{worst * 0.97};
  EXPECT_TRUE(search(job).candidates.empty());
  EXPECT_EQ(search(job).rejected.at("does not fit the memory"), 1);
  Calibration exact = default_calibration(job.hardware.spec);
  exact.peak_bytes_spread = 0;
  const PlanSearchResult result = search_plans(job, exact, 0.99, BudgetSearch::kOn);
  ASSERT_EQ(result.candidates.size(), 1u);
  EXPECT_GT(result.candidates[0].kl_divergence, 0);
  EXPECT_LT(result.candidates[0].expected_sum_fraction, 1);
  EXPECT_LE(result.candidates[0].plan.memory.total().value, worst * 0.97);
}

// The memory model's own error counts too: what is called a candidate fits with the confidence that was asked for.
TEST(PlanSearch, ATunedCandidateFitsWithTheConfidence) {
  Job job = small_memory_job(R"({"training": {"recompute": "none"}})");
  Calibration calibration = default_calibration(job.hardware.spec);
  calibration.peak_bytes_spread = 0.005;
  const double worst = simulate(job, calibration).memory.total().value;
  int tuned = 0;
  for (const double factor : {0.95, 0.96, 0.97, 0.98, 0.99, 1.0, 1.01}) {
    job.hardware.usable_memory = Bytes{worst * factor};
    for (const PlanCandidate& candidate : search_plans(job, calibration, 0.99, BudgetSearch::kOn).candidates) {
      EXPECT_GE(candidate.plan.fit.probability, 0.99) << factor;
      if (candidate.kl_divergence > 0) ++tuned;
    }
  }
  EXPECT_GT(tuned, 0);
}

}  // namespace
}  // namespace mmoe
