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

constexpr ScheduleChoice kPlain = {PipelineSchedule::kOneForwardOneBackward, 1};
const std::vector<std::vector<int64_t>> kFrameworksCut = {{}};

TEST(LayoutSpace, WhatTheFrameworkCanChooseIsSearchedUnlessGiven) {
  nlohmann::json json = example_cluster_json();
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_EQ(space.zero_groups, (std::vector<int64_t>{0, 8, 4, 2}));  // of 16 devices, 8 a node
  EXPECT_EQ(space.offloads, (std::vector<Offload>{Offload::kNone, Offload::kOptimizer, Offload::kActivations}));
  EXPECT_GT(space.stage_cuts(2, kPlain).size(), 1);
  EXPECT_TRUE(space.cuts_are_open());
  EXPECT_TRUE(space.groups_or_offload_are_open());

  json["parallelism"].merge_patch({{"stage_layers", nlohmann::json::array()}, {"zero_group", 0}});
  json["training"]["offload"] = "none";
  const Job given = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  // A framework that runs none of it has nothing to choose.
  Framework plain = framework;
  plain.choices.clear();
  for (const LayoutSpace& nothing : {LayoutSpace(given, framework), LayoutSpace(job, plain)}) {
    EXPECT_EQ(nothing.zero_groups, std::vector<int64_t>{0});
    EXPECT_EQ(nothing.offloads, std::vector<Offload>{Offload::kNone});
    EXPECT_EQ(nothing.stage_cuts(2, kPlain), kFrameworksCut);
    EXPECT_FALSE(nothing.cuts_are_open());
    EXPECT_FALSE(nothing.groups_or_offload_are_open());
  }
  // Nor does a device without a link to its host offload.
  Job without_link = job;
  without_link.hardware.spec.host_link = BytesPerSecond{0};
  EXPECT_EQ(LayoutSpace(without_link, framework).offloads, std::vector<Offload>{Offload::kNone});
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

// As Megatron-Core refuses --cpu-offloading-num-layers with a pipeline or recomputation (0.16.1,
// transformer_config.py, TransformerConfig.__post_init__).
TEST(LayoutSpace, ActivationsThatAreOffloadedAloneHaveNoPipelineAndNoRecomputation) {
  const Job job = parse_job(example_cluster_json(), "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  EXPECT_EQ(std::count(framework.choices.begin(), framework.choices.end(), "offload_activations"), 0);
  const LayoutSpace space(job, framework);
  int64_t offloaded = 0;
  for (const LayoutShape& shape : space.shapes()) {
    if (shape.offload != Offload::kActivations) continue;
    ++offloaded;
    Job one = job;
    space.apply(shape, one);
    EXPECT_FALSE(one.training.recompute.any());
    one.parallelism.pipeline = 2;
    EXPECT_NE(space.why_not(one), nullptr);
  }
  EXPECT_GT(offloaded, 0);
  Framework everywhere = framework;
  everywhere.choices = {"offload_activations"};
  const std::vector<LayoutShape> shapes = LayoutSpace(job, everywhere).shapes();
  const auto with_recomputation = std::count_if(shapes.begin(), shapes.end(), [](const LayoutShape& shape) {
    return shape.offload == Offload::kActivations && shape.recompute > 0;
  });
  EXPECT_GT(with_recomputation, 0);
}

// Worked by hand: 8 layers, none or one more for the embedding, none to two more for the loss, in 4 chunks.
TEST(LayoutSpace, StagesAreCutEvenlyWithWhatEmbeddingAndLossCountFor) {
  const nlohmann::json json = example_cluster_json();
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_EQ(space.stage_cuts(4, kPlain),
            (std::vector<std::vector<int64_t>>{
                {}, {3, 2, 2, 1}, {2, 2, 3, 1}, {1, 2, 2, 3}, {2, 3, 2, 1}, {1, 2, 3, 2}, {1, 3, 3, 1}}));
  EXPECT_EQ(space.stage_cuts(1, kPlain), kFrameworksCut);
  EXPECT_EQ(space.stage_cuts(8, kPlain), kFrameworksCut);  // none but one layer each
  // 10 layers on 2 ranks: 2 x 2, 2 x 3 and 2 x 5 chunks are even with 2, 2 and 0 more.
  nlohmann::json ten = json;
  ten["model"]["num_layers"] = 10;
  const Job of_ten = parse_job(ten, "job.json", "/", {}, Layout::kOpen);
  using enum PipelineSchedule;
  EXPECT_EQ(LayoutSpace(of_ten, framework).schedules(2),
            (std::vector<ScheduleChoice>{
                {kOneForwardOneBackward, 1}, {kInterleaved, 5}, {kInterleaved, 2, true}, {kInterleaved, 3, true}}));
  EXPECT_EQ(LayoutSpace(of_ten, framework).stage_cuts(2, {kInterleaved, 3, true}).front().size(), 6);
  // A framework's own rule is one of the cuts.
  Framework by_cost = framework;
  by_cost.stage_cut = StageCut::kCost;
  EXPECT_EQ(LayoutSpace(job, by_cost).stage_cuts(4, kPlain)[0], std::vector<int64_t>{});
  EXPECT_EQ(LayoutSpace(job, by_cost).stage_cuts(4, kPlain)[1], std::vector<int64_t>(4, 2));
}

TEST(LayoutSpace, GivenStagesAndGroupsStay) {
  nlohmann::json json = example_cluster_json();
  json["parallelism"] = {{"stage_layers", {3, 2, 2, 1}}, {"zero_group", 2}};
  json["training"].merge_patch({{"recompute", "auto"}, {"recompute_num_layers", 3}, {"offload", "optimizer"}});
  const Job job = parse_job(json, "job.json", "/", {}, Layout::kOpen);
  const Framework framework = framework_of(job);
  const LayoutSpace space(job, framework);
  EXPECT_EQ(space.stage_cuts(4, kPlain), (std::vector<std::vector<int64_t>>{{3, 2, 2, 1}}));
  EXPECT_TRUE(space.stage_cuts(2, kPlain).empty());
  EXPECT_EQ(space.zero_groups, std::vector<int64_t>{2});
  EXPECT_EQ(space.offloads, std::vector<Offload>{Offload::kOptimizer});
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
