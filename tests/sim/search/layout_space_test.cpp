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

TEST(LayoutSpace, ThreeKeysAreSearchedOnlyWhereTheJobSaysAuto) {
  nlohmann::json json = example_cluster_json();
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace left_out(job, framework);
  EXPECT_EQ(left_out.zero_groups, std::vector<int64_t>{0});
  EXPECT_EQ(left_out.offloads, std::vector<std::string>{"none"});
  EXPECT_EQ(left_out.stage_cuts(2), std::vector<std::vector<int64_t>>{{}});

  json["parallelism"].merge_patch({{"stage_layers", "auto"}, {"zero_group", "auto"}});
  json["training"]["offload"] = "auto";
  const Job asked = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const LayoutSpace space(asked, framework);
  EXPECT_EQ(space.zero_groups, (std::vector<int64_t>{0, 2, 4, 8}));  // of 16 devices, 8 a node
  EXPECT_EQ(space.offloads, (std::vector<std::string>{"none", "optimizer", "activations"}));
  // A framework that runs none of it has nothing to choose.
  Framework plain = framework;
  plain.choices.clear();
  const LayoutSpace nothing(asked, plain);
  EXPECT_EQ(nothing.zero_groups, std::vector<int64_t>{0});
  EXPECT_EQ(nothing.offloads, std::vector<std::string>{"none"});
  EXPECT_EQ(nothing.stage_cuts(2), std::vector<std::vector<int64_t>>{{}});
  // Nor does a device without a link to its host offload.
  Job without_link = asked;
  without_link.hardware.spec.host_link = BytesPerSecond{0};
  EXPECT_EQ(LayoutSpace(without_link, framework).offloads, std::vector<std::string>{"none"});
}

TEST(LayoutSpace, RecomputedLayersAndOverlapAreSearchedUnlessGiven) {
  nlohmann::json json = example_cluster_json();
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_TRUE(space.recomputed_layers_are_searched);
  EXPECT_EQ(space.overlaps, std::vector<bool>{true});
  json["training"].merge_patch({{"recompute_num_layers", 2}, {"overlap", false}});
  const Job given = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  EXPECT_FALSE(LayoutSpace(given, framework).recomputed_layers_are_searched);
  EXPECT_EQ(LayoutSpace(given, framework).overlaps, std::vector<bool>{false});
  // What hiding costs may pass what it hides.
  framework.time.exposed_data = 1.2;
  framework.choices.clear();
  EXPECT_EQ(LayoutSpace(job, framework).overlaps, std::vector<bool>{false});
  EXPECT_FALSE(LayoutSpace(job, framework).recomputed_layers_are_searched);
}

// Worked by hand: 8 layers, none or one more for the embedding, none to two more for the loss, in 4 chunks.
TEST(LayoutSpace, StagesAreCutEvenlyWithWhatEmbeddingAndLossCountFor) {
  nlohmann::json json = example_cluster_json();
  json["parallelism"] = {{"stage_layers", "auto"}};
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_EQ(space.stage_cuts(4),
            (std::vector<std::vector<int64_t>>{
                {2, 2, 2, 2}, {3, 2, 2, 1}, {2, 2, 3, 1}, {1, 2, 2, 3}, {2, 3, 2, 1}, {1, 2, 3, 2}, {1, 3, 3, 1}}));
  EXPECT_EQ(space.stage_cuts(1), std::vector<std::vector<int64_t>>{{}});
  EXPECT_EQ(space.stage_cuts(8), std::vector<std::vector<int64_t>>{std::vector<int64_t>(8, 1)});
  // 10 layers on 2 ranks: 2 x 2, 2 x 3 and 2 x 5 chunks are even with 2, 2 and 0 more.
  nlohmann::json ten = json;
  ten["model"]["num_layers"] = 10;
  const Job of_ten = parse_job(ten, "job.json", "/", {}, Layout::kOpen);
  using enum PipelineSchedule;
  EXPECT_EQ(LayoutSpace(of_ten, framework).schedules(2),
            (std::vector<ScheduleChoice>{
                {kOneForwardOneBackward, 1}, {kInterleaved, 2}, {kInterleaved, 3}, {kInterleaved, 5}}));
  const Job even = parse_job(example_cluster_json(), "job.json", "/", {}, Layout::kOpen);
  EXPECT_EQ(LayoutSpace(even, framework).stage_cuts(4), std::vector<std::vector<int64_t>>{{}});
  // A framework's own rule is one of the cuts.
  Framework by_cost = framework;
  by_cost.stage_cut = StageCut::kCost;
  EXPECT_EQ(LayoutSpace(job, by_cost).stage_cuts(4).front(), std::vector<int64_t>{});
}

TEST(LayoutSpace, GivenStagesAndGroupsStay) {
  nlohmann::json json = example_cluster_json();
  json["parallelism"] = {{"stage_layers", {3, 2, 2, 1}}, {"zero_group", 2}};
  json["training"].merge_patch({{"recompute", "auto"}, {"recompute_num_layers", 3}, {"offload", "optimizer"}});
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_EQ(space.stage_cuts(4), (std::vector<std::vector<int64_t>>{{3, 2, 2, 1}}));
  EXPECT_TRUE(space.stage_cuts(2).empty());
  EXPECT_EQ(space.zero_groups, std::vector<int64_t>{2});
  EXPECT_EQ(space.offloads, std::vector<std::string>{"optimizer"});
  for (const Recompute& recompute : space.recomputes) EXPECT_EQ(recompute.num_layers, recompute.full ? 3 : 0);
  const auto reason = [&](int64_t tensor, int64_t expert) {
    Job one = job;
    one.parallelism.tensor = tensor;
    one.parallelism.sequence = tensor > 1;
    one.parallelism.expert = expert;
    const char* why = space.why_not(one);
    return std::string(why == nullptr ? "" : why);
  };
  EXPECT_EQ(reason(8, 8), "");                                     // 2 replicas, one copy
  EXPECT_EQ(reason(1, 2), "");                                     // 16 replicas, 8 copies, 8 ranks share experts
  EXPECT_NE(reason(1, 4).find("zero_group"), std::string::npos);   // 8 copies, 4 ranks share experts
  EXPECT_NE(reason(16, 1).find("zero_group"), std::string::npos);  // one replica
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
