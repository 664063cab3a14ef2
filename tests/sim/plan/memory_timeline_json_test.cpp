#include "sim/plan/memory_timeline_json.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sim/cluster/memory_model.h"
#include "sim/plan/trainer_ranks.h"
#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

TEST(MemoryTimelineJson, HasBothDrawsWhereKIsDrawn) {
  const Job job =
      example_cluster_job({{"elastic.k_min", "1"}, {"elastic.k_max", "6"}, {"elastic.sampling", "uniform"}});
  const nlohmann::json json = memory_timeline_json(job, framework_of(job));
  ASSERT_EQ(json["draws"].size(), 2U);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    const nlohmann::json &most = json["draws"]["k_max"][rank], &drawn = json["draws"]["drawn"][rank];
    EXPECT_LT(drawn["peak"]["bytes"].get<double>(), most["peak"]["bytes"].get<double>());
    double highest = 0;
    for (const nlohmann::json& s : most["samples"]) {
      highest = std::max(highest, s[1].get<double>() + s[2].get<double>() + s[3].get<double>());
    }
    for (const auto& [cause, bytes] : most["held_bytes"].items()) highest += bytes.get<double>();
    EXPECT_DOUBLE_EQ(highest, most["peak"]["bytes"].get<double>()) << "causes add up to the peak";
  }
  EXPECT_EQ(memory_timeline_json(example_cluster_job(), framework_of(job))["draws"].size(), 1U);
}

// A window that has room for k_min alone leaves no other draw.
TEST(MemoryTimelineJson, DrawsKeepAWindowBudget) {
  const Overrides elastic = {{"elastic.k_min", "1"}, {"elastic.k_max", "6"}, {"elastic.sampling", "uniform"}};
  const auto drawn_peak = [&](const char* budget) {
    Overrides overrides = elastic;
    overrides.emplace_back("elastic.budget", budget);
    const Job job = example_cluster_job(overrides);
    return memory_timeline_json(job, framework_of(job))["draws"]["drawn"][0]["peak"]["bytes"].get<double>();
  };
  // Ranks of 2 and 4 MoE layers hold 2 and 1 micro-batches.
  const Job job = example_cluster_job(elastic);
  const double least = cluster_memory(job, framework_of(job), 1)[0].peak_allocated.value;
  EXPECT_NEAR(drawn_peak(R"({"kind": "window", "sum_k": [4, 4]})"), least, 1e-9 * least);
  EXPECT_GT(drawn_peak(R"({"kind": "window", "sum_k": [8, 14]})"), least);
}

// Our trainer's ranks on CPUs: each stage's highest device peaks where trainer_rank_peak says, at both draws.
TEST(MemoryTimelineJson, OfOurTrainerPeaksWhereItsRanksDo) {
  for (const char* layout :
       {R"({"pipeline": 2, "zero_stage": 1})", R"({"expert": 2, "zero_stage": 3})",
        R"({"pipeline": 2, "virtual_pipeline": 2, "context": 2, "context_kind": "alltoall", "zero_stage": 2})"}) {
    nlohmann::json words = R"({
      "model": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 512, "num_experts": 8,
                "expert_hidden_size": 32},
      "hardware": {"device": "cpu", "num_devices": 4},
      "training": {"seq_len": 64, "micro_batch_size": 2, "global_batch_size": 16, "precision": "fp32"},
      "elastic": {"k_min": 1, "k_max": 4}})"_json;
    words["parallelism"] = nlohmann::json::parse(layout);
    const Job job = parse_job(words, "job.json", ".");
    const nlohmann::json json = memory_timeline_json(job, framework_of(job));
    EXPECT_EQ(json["limit_bytes"], job.hardware.usable_memory.value);
    const auto stages = static_cast<std::size_t>(job.parallelism.pipeline);
    std::vector<double> drawn(stages, 0);
    const nlohmann::json first_step = trainer_step_json(job, 1);
    for (const nlohmann::json& rank : first_step["ranks"]) {
      double& highest = drawn[rank["stage"].get<std::size_t>()];
      highest = std::max(highest, rank["peak_allocated_bytes"].get<double>());
    }
    const std::vector<TrainerRankPeak> most = trainer_stage_peaks(job, 4);
    ASSERT_EQ(json["draws"]["k_max"].size(), stages);
    for (std::size_t stage = 0; stage < stages; ++stage) {
      const nlohmann::json& rank = json["draws"]["k_max"][stage];
      EXPECT_EQ(rank["peak"]["moment"], most[stage].moment);
      // Sums of some 1e6 bytes, in another order.
      EXPECT_NEAR(rank["peak"]["bytes"].get<double>(), most[stage].total.value, 1e-3);
      EXPECT_NEAR(json["draws"]["drawn"][stage]["peak"]["bytes"].get<double>(), drawn[stage], 1e-3);
      double before = 0;
      for (const nlohmann::json& sample : rank["samples"]) {
        EXPECT_GE(sample[0].get<double>(), before);
        before = sample[0].get<double>();
        for (const int part : {1, 2, 3}) EXPECT_GE(sample[part].get<double>(), 0);
      }
      // Each of 16 / (2 x replicas) micro-batches passes every chunk twice; then gradients and weights go round.
      const auto passes = static_cast<std::size_t>(2 * job.num_micro_batches() * job.parallelism.virtual_pipeline);
      EXPECT_EQ(rank["samples"].size(), 2 * passes + 1);
    }
  }
}

}  // namespace
}  // namespace mmoe
