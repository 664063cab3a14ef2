#include "sim/plan/cluster_budget.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sim/plan/cluster_plan.h"
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

}  // namespace
}  // namespace mmoe
