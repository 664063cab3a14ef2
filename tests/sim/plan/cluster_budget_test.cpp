#include "sim/plan/cluster_budget.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "sim/cluster/expert_load.h"
#include "sim/plan/cluster_plan.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/units/errors.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

Job elastic_job(const Overrides& overrides = {}) {
  nlohmann::json json = example_cluster_json();
  json["elastic"] = {{"k_min", 1}, {"k_max", 6}};
  return parse_job(json, "job.json", "/", overrides);
}

BudgetRequest saving(double share) {
  BudgetRequest request;
  request.saving = share;
  return request;
}

TEST(ClusterBudget, SavesWhatItPromises) {
  const Job job = elastic_job({{"training.micro_batch_size", "4"}});
  const ClusterBudget plan = plan_cluster_budget(job, framework_of(job), saving(0.03));
  ASSERT_TRUE(plan.tuning.choice);
  EXPECT_TRUE(plan.tuning.budget_needed);
  EXPECT_GE(plan.tuning.choice->saving.p99, 0.03);
  EXPECT_LT(plan.mean_k, 3.5);
  EXPECT_LT(plan.expected_flops_fraction, 1);
  EXPECT_GT(plan.k_dependent_fraction, plan.tuning.choice->saving.p99);
  EXPECT_LT(plan.with.time.step.mean(), plan.without.time.step.mean());
  // The budget, written into the job, holds in the simulation that knows nothing of the tuner.
  const Job budgeted = parse_job(to_json(plan.job), "job.json", "/");
  const ClusterPlan simulated = simulate_cluster(budgeted, framework_of(budgeted));
  EXPECT_LE(simulated.peak_allocated.p99, plan.tuning.choice->peak * (1 + 1e-9));
}

TEST(ClusterBudget, NothingSavesMoreThanWhatDependsOnK) {
  const Job job = elastic_job();
  const ClusterBudget plan = plan_cluster_budget(job, framework_of(job), saving(0.9), false);
  EXPECT_FALSE(plan.tuning.choice);
  EXPECT_NE(plan.tuning.reason.find("k = 1 in every MoE layer"), std::string::npos);
  EXPECT_TRUE(to_json(plan)["budget"].is_null());
}

TEST(ClusterBudget, FreedMemoryBuysLessRecomputation) {
  const Job job = elastic_job({{"training.recompute", "full"}});
  const ClusterBudget plan = plan_cluster_budget(job, framework_of(job), {});
  EXPECT_FALSE(plan.tuning.budget_needed);
  ASSERT_FALSE(plan.uses.empty());
  bool recompute = false;
  for (const auto& use : plan.uses) {
    EXPECT_GT(use.gain, 0);
    EXPECT_LE(use.budget.peak, plan.memory_limit.value);
    recompute = recompute || use.change.find("training.recompute") != std::string::npos;
  }
  EXPECT_TRUE(recompute);
}

TEST(ClusterBudget, BadRequestsNameWhatIsWrong) {
  const Job job = elastic_job();
  BudgetRequest request = saving(0.1);
  request.confidence = 1;
  EXPECT_THROW(plan_cluster_budget(job, framework_of(job), request), ConfigError);
  EXPECT_THROW(plan_cluster_budget(job, framework_of(job), saving(1.5)), ConfigError);
  EXPECT_THROW(plan_cluster_budget(example_cluster_job(), framework_of(job), saving(0.1)), ConfigError);
  const Job shared = elastic_job({{"elastic.granularity", "micro_batch"}});
  EXPECT_THROW(plan_cluster_budget(shared, framework_of(job), saving(0.1)), ConfigError);
}

// A window budget bounds what is in flight, and the schedule is played with draws that keep it.
TEST(ClusterBudget, WindowsBoundThePeak) {
  const Job free = elastic_job();
  const Job job = elastic_job({{"elastic.budget", R"({"kind": "window", "sum_k": [8, 14]})"}});
  const ClusterPlan with = simulate_cluster(job, framework_of(job)),
                    without = simulate_cluster(free, framework_of(job));
  EXPECT_LT(with.ranks[0].peak_allocated.max, without.ranks[0].peak_allocated.max);
  EXPECT_LT(with.time.step.mean(), without.time.step.mean());
  EXPECT_LT(mean_k(job), 3.5);
  EXPECT_GT(mean_k(job), 1);
}

Job expert_parallel_job(const std::string& load) {
  const std::string path = testing::TempDir() + "mmoe_budget_load.json";
  std::ofstream(path) << load;
  const nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 512, "num_experts": 8,
              "expert_hidden_size": 32},
    "hardware": {"device": "cpu", "num_devices": 4}, "parallelism": {"expert": 4},
    "training": {"seq_len": 64, "micro_batch_size": 8, "global_batch_size": 32, "precision": "fp32"},
    "elastic": {"k_min": 1, "k_max": 4}})");
  return parse_job(json, "job.json", ".", {{"training.moe.load", path}});
}

// A bound that fits balanced routing breaks the limit on the busiest rank; the one tuned for the load keeps it there.
TEST(ClusterBudget, CountsTheBusiestExpertRank) {
  const Job balanced = expert_parallel_job("[1, 1, 1, 1, 1, 1, 1, 1]");
  BudgetRequest request = saving(0.08);
  request.steps = 500;
  const ClusterBudget even = plan_cluster_budget(balanced, framework_of(balanced), request, false);
  ASSERT_TRUE(even.tuning.choice && even.tuning.budget_needed);
  EXPECT_EQ(even.load_factor, 1);
  const Job skewed = expert_parallel_job("[3, 3, 1, 1, 1, 1, 1, 1]");  // at k = 4 two experts are just full
  request.saving.reset();
  request.memory_limit = Bytes{even.tuning.free_peak};
  const ClusterBudget plan = plan_cluster_budget(skewed, framework_of(skewed), request, false);
  EXPECT_NEAR(plan.load_factor, 2, 1e-12);
  EXPECT_EQ(to_json(plan)["expert_load_factor"], plan.load_factor);
  ASSERT_TRUE(plan.tuning.choice && plan.tuning.budget_needed);
  const auto broken = [&](const Budget& budget) {
    Job job = skewed;
    job.elastic.budget = budget;
    const StepDraws draws(job);
    int64_t steps = 0;
    for (int64_t step = 1; step <= 500; ++step) {
      const std::vector<std::vector<int>> k = draws_of_all_replicas(job, draws, step);
      steps += trainer_rank_peak(job, 0, k).total.value > request.memory_limit->value;
    }
    return steps;
  };
  EXPECT_EQ(broken(plan.tuning.choice->budget), 0);
  EXPECT_GT(broken(even.tuning.choice->budget), 0);
}

// Replicas of one expert group that draw on their own seldom draw high together; what they share is rare at no draw.
TEST(ClusterBudget, RowsOfReplicasComeByTheirOwnDraws) {
  const Overrides folded = {{"parallelism.tensor", "1"}, {"training.micro_batch_size", "4"}};
  Overrides shared_draws = folded;
  shared_draws.emplace_back("elastic.share", "replicas");
  const Job own = elastic_job(folded), shared = elastic_job(shared_draws);
  EXPECT_EQ(replicas_that_draw(own), 4);
  EXPECT_EQ(replicas_that_draw(shared), 1);
  const RankPeaks peaks = rank_peaks(own, framework_of(own), 1);
  ASSERT_EQ(peaks.others, 3);
  // Nearly all that depends on k are rows: each of four replicas gives about a quarter.
  EXPECT_GT(peaks.from_other[0].back(), 0.2 * peaks.added[0].back());
  EXPECT_LE(peaks.from_other[0].back(), 0.25 * peaks.added[0].back() * (1 + 1e-12));
  const ClusterPlan apart = simulate_cluster(own, framework_of(own)),
                    together = simulate_cluster(shared, framework_of(shared));
  EXPECT_EQ(apart.ranks[0].peak_allocated.max, together.ranks[0].peak_allocated.max);
  EXPECT_LT(apart.ranks[0].peak_allocated.p99, together.ranks[0].peak_allocated.p99);
  const ClusterBudget budget = plan_cluster_budget(own, framework_of(own), saving(0.02), false);
  EXPECT_LT(budget.tuning.free_peak,
            plan_cluster_budget(shared, framework_of(shared), saving(0.02), false).tuning.free_peak);
}

// Random loads share the risk with the draws.
TEST(ClusterBudget, RandomLoadsAreBounded) {
  const Job job = parse_job(to_json(expert_parallel_job("[1, 1, 1, 1, 1, 1, 1, 1]")), "job.json", ".",
                            {{"training.moe.load", "zipf:1"}});
  const ClusterBudget plan = plan_cluster_budget(job, framework_of(job), saving(0.05), false);
  EXPECT_NEAR(plan.draws_confidence, 0.995, 1e-12);
  EXPECT_DOUBLE_EQ(plan.load_factor, expert_load_bound(job, plan.draws_confidence).highest());
  EXPECT_GT(plan.load_factor, expert_load_factor(job).highest());
  EXPECT_LT(plan.load_by_k.back(), plan.load_by_k.front());
}

}  // namespace
}  // namespace mmoe
