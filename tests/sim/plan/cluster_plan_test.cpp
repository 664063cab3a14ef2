#include "sim/plan/cluster_plan.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

ClusterPlan plan_of(const nlohmann::json& elastic, const Overrides& overrides = {}) {
  nlohmann::json json = example_cluster_json();
  json["elastic"] = elastic;
  const Job job = parse_job(json, "job.json", "/", overrides);
  return simulate_cluster(job, framework_of(job));
}

TEST(ClusterPlan, PeakIsThatOfTheLargestDraw) {
  const ClusterPlan plan = plan_of({{"k_min", 1}, {"k_max", 6}});
  const RankReport& rank = plan.ranks[static_cast<std::size_t>(plan.limiting_rank)];
  // The law's largest value and the memory model at k_max are two ways to the same bytes.
  EXPECT_NEAR(rank.peak_allocated.max / rank.worst.peak_allocated.value, 1, 1e-9);
  EXPECT_LT(rank.peak_allocated.p50, rank.peak_allocated.max);
}

TEST(ClusterPlan, ABudgetLowersTheWorstDraw) {
  const ClusterPlan open = plan_of({{"k_min", 1}, {"k_max", 6}});
  const ClusterPlan bounded = plan_of({{"k_min", 1}, {"k_max", 6}, {"budget", {{"kind", "at_most"}, {"sum_k", 9}}}});
  EXPECT_LT(bounded.peak_allocated.max, open.peak_allocated.max);
  EXPECT_LT(bounded.time.step.mean(), open.time.step.mean());
}

TEST(ClusterPlan, VerdictFollowsTheLimit) {
  EXPECT_EQ(plan_of({{"k_min", 1}, {"k_max", 6}}).fit.verdict, FitVerdict::kFits);
  ClusterPlan tight = plan_of({{"k_min", 1}, {"k_max", 6}}, {{"hardware.usable_memory_gib", "1.5"}});
  EXPECT_EQ(tight.fit.verdict, FitVerdict::kDoesNotFit);
  EXPECT_LT(tight.fit.probability, 0.01);
}

TEST(ClusterPlan, DoesNotFitWhereTheHostCannotHoldWhatIsOffloaded) {
  Job job = example_cluster_job({{"training.offload", "optimizer"}});
  const Framework framework = framework_of(job);
  ASSERT_GT(job.hardware.cluster_spec.host_memory.value, 0);
  const ClusterPlan roomy = simulate_cluster(job, framework);
  EXPECT_EQ(roomy.fit.verdict, FitVerdict::kFits);
  Bytes most;
  for (const RankReport& rank : roomy.ranks) most = std::max(most, rank.worst.host);
  job.hardware.cluster_spec.host_memory = most * 0.99;
  const ClusterPlan full = simulate_cluster(job, framework);
  EXPECT_EQ(full.fit.verdict, FitVerdict::kDoesNotFit);
  EXPECT_EQ(full.fit.probability, 0);
  const nlohmann::json fit = to_json(full)["fit"];
  EXPECT_EQ(fit["limiting"]["cause"], kHostMemory);
  EXPECT_EQ(fit["host_limit_bytes"], most.value * 0.99);
  job.hardware.cluster_spec.host_memory = {};  // not known
  EXPECT_EQ(simulate_cluster(job, framework).fit.verdict, FitVerdict::kFits);
}

TEST(ClusterPlan, JsonHasTheKeysOfTheContract) {
  const nlohmann::json json = to_json(plan_of({{"k_min", 1}, {"k_max", 6}}, {{"training.tokens", "1e9"}}));
  for (const char* key : {"fits", "fit", "evidence", "memory", "throughput", "elastic", "run", "intervals"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  double step = 0;
  for (const auto& [cause, seconds] : json["throughput"]["breakdown_seconds"].items()) step += seconds.get<double>();
  EXPECT_NEAR(step, json["throughput"]["step_seconds"].get<double>(), 1e-9 * step);
  EXPECT_EQ(json["memory"]["stages"].size(), 2);
  for (const auto& stage : json["memory"]["stages"]) {
    const double sum = stage["weights_bytes"].get<double>() + stage["gradients_bytes"].get<double>() +
                       stage["optimizer_bytes"].get<double>() + stage["activations_bytes"].get<double>() +
                       stage["buffers_bytes"].get<double>();
    EXPECT_NEAR(sum, stage["peak_allocated_bytes"].get<double>(), 1);
  }
  EXPECT_GT(json["run"]["days"].get<double>(), 0);
}

}  // namespace
}  // namespace mmoe
