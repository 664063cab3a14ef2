#include "sim/search/stage_plans.h"

#include <gtest/gtest.h>

#include <string>

#include "sim/units/errors.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

// 8 layers, the first two of them dense.
TEST(StagePlans, NameTheRanksThatDifferFromTheOneBefore) {
  nlohmann::json json = example_cluster_json();
  json["parallelism"] = {{"pipeline", 4}, {"schedule", "1F1B"}, {"stage_layers", {2, 2, 2, 2}}};
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const std::vector<PipelinePlans> pipelines = pipeline_plans(job, framework, LayoutSpace(job, framework));
  ASSERT_EQ(pipelines.size(), 1);
  ASSERT_EQ(pipelines[0].plans.size(), 1);
  const StagePlan& plan = pipelines[0].plans[0];
  EXPECT_EQ(plan.distinct_ranks, (std::vector<int64_t>{0, 1, 3}));  // embedding and dense layers; MoE layers; head
  EXPECT_EQ(plan.longest, 2);
  EXPECT_FALSE(plan.is_variant) << "the job's own";
}

TEST(StagePlans, AreVariantsWhereTheJobLeavesTheCutOpen) {
  nlohmann::json json = example_cluster_json();
  json["parallelism"] = {{"pipeline", 4}, {"schedule", "1F1B"}};
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  const std::vector<PipelinePlans> pipelines = pipeline_plans(job, framework, space);
  ASSERT_EQ(pipelines.size(), 1);
  const std::vector<StagePlan>& plans = pipelines[0].plans;
  EXPECT_EQ(plans.size(), space.stage_cuts(4, space.schedules(4)[0]).size());
  EXPECT_EQ(pipelines[0].num_variants, static_cast<int64_t>(plans.size()) - 1);
  for (const StagePlan& plan : plans) EXPECT_EQ(plan.is_variant, !plan.stage_layers.empty());
}

// A cut that is no cut of the model, or of no pipeline that is left open, is the user's mistake.
TEST(StagePlans, RefuseStagesThatNothingOpenHas) {
  const auto message = [](const nlohmann::json& parallelism) {
    nlohmann::json json = example_cluster_json();
    json["parallelism"] = parallelism;
    const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
    try {
      const Framework framework = framework_of(job);
      pipeline_plans(job, framework, LayoutSpace(job, framework));
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message({{"stage_layers", {4, 3}}}).find("must add up to model.num_layers = 8"), std::string::npos);
  EXPECT_NE(message({{"stage_layers", {9, -1}}}).find("must add up to model.num_layers = 8"), std::string::npos);
  EXPECT_NE(message({{"stage_layers", {4, 4}}, {"pipeline", 4}}).find("lists 2 chunks"), std::string::npos);
  EXPECT_EQ(message({{"stage_layers", {5, 3}}}), "");
}

}  // namespace
}  // namespace mmoe
