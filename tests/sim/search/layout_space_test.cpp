#include "sim/search/layout_space.h"

#include <gtest/gtest.h>

#include <map>

#include "sim/config/recompute_text.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

TEST(LayoutSpace, WhatIsGivenStays) {
  const Job job = example_cluster_job();
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_EQ(space.tensors, std::vector<int64_t>{2});
  EXPECT_EQ(space.pipelines, std::vector<int64_t>{2});
  EXPECT_EQ(space.experts, std::vector<int64_t>{4});
  EXPECT_EQ(space.zero_stages, std::vector<int64_t>{1});
  EXPECT_EQ(space.micro_batches, std::vector<int64_t>{1});
  EXPECT_GT(space.recomputes.size(), 2);
}

TEST(LayoutSpace, OpenDegreesAreThoseThatTheModelAllows) {
  nlohmann::json json = example_cluster_json();
  json.erase("parallelism");
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_EQ(space.tensors, (std::vector<int64_t>{1, 2, 4, 8}));  // 8 key-value heads, 8 devices a node
  EXPECT_EQ(space.pipelines, (std::vector<int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(space.experts, (std::vector<int64_t>{1, 2, 4, 8, 16}));
  using enum PipelineSchedule;
  EXPECT_EQ(space.schedules(2),
            (std::vector<ScheduleChoice>{{kOneForwardOneBackward, 1}, {kInterleaved, 2}, {kInterleaved, 4}}));
  EXPECT_EQ(space.schedules(1), (std::vector<ScheduleChoice>{{kOneForwardOneBackward, 1}}));
}

TEST(LayoutSpace, OnlySchedulesThatTheFrameworkRunsAreOffered) {
  nlohmann::json json = example_cluster_json();
  json.erase("parallelism");
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  Framework framework = framework_of(job);
  using enum PipelineSchedule;
  framework.schedules = {kOneForwardOneBackward, kZeroBubble};
  EXPECT_EQ(LayoutSpace(job, framework).schedules(4),
            (std::vector<ScheduleChoice>{{kOneForwardOneBackward, 1}, {kZeroBubble, 1}, {kZeroBubble, 2}}));
  json["parallelism"] = {{"schedule", "interleaved"}};
  const Job pinned = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  EXPECT_EQ(LayoutSpace(pinned, framework).schedules(4), (std::vector<ScheduleChoice>{{kInterleaved, 2}}));
}

// The file of the project's own trainer lists less than the default, everything.
TEST(LayoutSpace, OnlyWhatTheFrameworkRunsIsOfferedUnlessTheJobNamesIt) {
  nlohmann::json json = example_cluster_json();
  json.erase("parallelism");
  json["training"]["framework"] = "mmoe";
  json["model"]["tie_embeddings"] = true;
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_EQ(space.zero_stages, (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(space.dispatchers, std::vector<DispatcherKind>{DispatcherKind::kAllToAll});
  for (const Recompute& recompute : space.recomputes) EXPECT_FALSE(!recompute.full && recompute.has("moe_activation"));
  EXPECT_EQ(space.context_kinds, std::vector<ContextKind>{ContextKind::kAllToAll});
  const auto reason_in = [&](const LayoutSpace& offered, int64_t ParallelismConfig::*degree) {
    Job split = job;
    split.parallelism.*degree = 2;
    const char* why = offered.why_not(split);
    return std::string(why == nullptr ? "" : why);
  };
  const auto reason = [&](int64_t ParallelismConfig::*degree) { return reason_in(space, degree); };
  EXPECT_EQ(reason(&ParallelismConfig::context), "");
  Framework whole_sequences_alone = framework;
  std::erase(whole_sequences_alone.splits, "context");
  const LayoutSpace without(job, whole_sequences_alone);
  EXPECT_NE(reason_in(without, &ParallelismConfig::context).find("no context parallelism"), std::string::npos);
  EXPECT_NE(reason(&ParallelismConfig::pipeline).find("tied embeddings"), std::string::npos);
  EXPECT_EQ(reason(&ParallelismConfig::expert), "");
  EXPECT_EQ(reason(&ParallelismConfig::expert_tensor), "");
  EXPECT_NE(reason(&ParallelismConfig::tensor).find("without sequence parallelism"), std::string::npos);
  Job both = job;
  both.parallelism.tensor = 2;
  both.parallelism.sequence = true;
  EXPECT_EQ(space.why_not(both), nullptr);

  json["parallelism"] = {{"context", 2}, {"pipeline", 2}, {"zero_stage", 3}};
  const Job pinned = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const LayoutSpace asked(pinned, framework);
  EXPECT_EQ(asked.zero_stages, std::vector<int64_t>{3});
  EXPECT_EQ(asked.why_not(pinned), nullptr);

  json["parallelism"] = {{"tensor", 2}, {"sequence", false}};
  const Job whole_sequences = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  EXPECT_EQ(LayoutSpace(whole_sequences, framework).why_not(whole_sequences), nullptr);
}

TEST(LayoutSpace, AllToAllContextSplitsHeads) {
  nlohmann::json json = example_cluster_json();
  json.erase("parallelism");
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  Framework framework = framework_of(job);
  framework.context_kinds = {ContextKind::kRing, ContextKind::kAllToAll};
  int64_t ring = 0, all_to_all = 0;
  for (const LayoutShape& shape : LayoutSpace(job, framework).shapes()) {
    if (shape.context_kind == ContextKind::kRing) {
      ring += shape.context > 1;
      continue;
    }
    ++all_to_all;
    EXPECT_GT(shape.context, 1);
    EXPECT_EQ(job.model.num_kv_heads % (shape.context * shape.tensor), 0);
  }
  EXPECT_GT(all_to_all, 0);
  EXPECT_LT(all_to_all, ring);  // 8 key-value heads, up to 16 ranks
}

// What experts keep is a choice of the project's own trainer; where they are recomputed as a whole there is none.
TEST(LayoutSpace, WhatExpertsKeepIsOpenInTheOwnTrainer) {
  nlohmann::json json = example_cluster_json();
  json["training"]["framework"] = "mmoe";
  const auto counts = [&](const nlohmann::json& one) {
    const Job job = parse_job(one, "job.json", "/", {}, Layout::kOpen);
    const Framework framework = framework_of(job);
    const LayoutSpace space(job, framework);
    std::map<std::pair<std::string, ExpertSaving>, int> count;
    for (const LayoutShape& shape : space.shapes()) {
      Job applied = job;
      space.apply(shape, applied);
      ++count[{recompute_text(applied.training.recompute, ExpertSaving::kLean), applied.training.expert_saving}];
    }
    return count;
  };
  const auto open = counts(json);
  for (const char* recompute : {"none", "attention"}) {
    EXPECT_GT(open.at({recompute, ExpertSaving::kLean}), 0);
    EXPECT_EQ(open.at({recompute, ExpertSaving::kLean}), open.at({recompute, ExpertSaving::kRecompute}));
  }
  for (const char* recompute : {"full", "moe"}) {
    EXPECT_EQ(open.count({recompute, ExpertSaving::kLean}), 1u);
    EXPECT_EQ(open.count({recompute, ExpertSaving::kRecompute}), 0u);
  }
  json["training"]["expert_saving"] = "auto";
  EXPECT_EQ(counts(json), open);
  json["training"]["expert_saving"] = "recompute";
  for (const auto& [key, count] : counts(json)) EXPECT_EQ(key.second, ExpertSaving::kRecompute);
}

}  // namespace
}  // namespace mmoe
