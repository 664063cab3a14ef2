#include "sim/plan/expert_group_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "sim/plan/step_draws.h"
#include "sim/plan/trainer_memory.h"
#include "sim/plan/trainer_ranks.h"

namespace mmoe {
namespace {

Job job_of(const std::string& parallelism, const Overrides& overrides = {}) {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 512, "num_experts": 8,
              "expert_hidden_size": 32, "num_dense_layers": 1, "dense_hidden_size": 96},
    "hardware": {"device": "cpu", "num_devices": 4},
    "training": {"seq_len": 64, "micro_batch_size": 2, "global_batch_size": 16, "precision": "fp32"},
    "elastic": {"k_min": 1, "k_max": 4}})");
  json["parallelism"] = nlohmann::json::parse(parallelism);
  return parse_job(json, "job.json", ".", overrides);
}

// Of the group's first rank, whose own draw is the last kind; k of [replica][MoE layer].
double highest(const GroupMemory& memory, const std::vector<std::vector<int>>& k, size_t own) {
  double highest = memory.least;
  for (const DrawnPeak& peak : memory.peaks) {
    double bytes = peak.base;
    for (size_t replica = 0; replica < k.size(); ++replica) {
      const LayerCosts& costs = (replica == own ? peak.draws.back() : peak.draws.front()).costs;
      for (size_t l = 0; l < costs.size(); ++l) bytes += costs[l][static_cast<size_t>(k[replica][l] - 1)];
    }
    highest = std::max(highest, bytes);
  }
  return highest;
}

TEST(ExpertGroup, SpansTheReplicasThatShareExperts) {
  EXPECT_EQ(replicas_in_expert_group(job_of(R"({"expert": 4})")), 4);
  EXPECT_EQ(replicas_in_expert_group(job_of(R"({"expert": 2})")), 2);
  EXPECT_EQ(replicas_in_expert_group(job_of(R"({"expert": 1})")), 1);
  EXPECT_EQ(replicas_in_expert_group(job_of(R"({"expert": 2, "tensor": 2, "sequence": true})")), 1);
  EXPECT_EQ(replicas_in_expert_group(job_of(R"({"expert": 4, "tensor": 2, "sequence": true})")), 2);
  EXPECT_EQ(replicas_in_expert_group(job_of(R"({"expert": 2, "expert_tensor": 2})")), 4);
}

// Every rank's passes at draws of each replica's own. What is rounded: sums of some 1e6 bytes.
TEST(ExpertGroupMemory, IsEveryRanksPeakAtItsReplicasDraws) {
  for (const char* parallelism : {R"({"expert": 4})", R"({"expert": 2})"}) {
    const Job job = job_of(parallelism);
    const ExpertPairs even(job, 1);
    const GroupMemory memory = expert_group_memory(job, even);
    const auto replicas = replicas_in_expert_group(job);
    ASSERT_EQ(memory.num_layers, 3);
    for (const DrawnPeak& peak : memory.peaks) {
      EXPECT_EQ(peak.ranks, static_cast<double>(replicas));
      EXPECT_EQ(peak.draws.front().count, replicas - 1);
      EXPECT_EQ(peak.draws.back().count, 1);
    }
    const StepDraws draws(job);
    for (int64_t step = 1; step <= 50; ++step) {
      const auto k = draws_of_all_replicas(job, draws, step);
      const int64_t micro_batches = job.num_micro_batches();
      for (int64_t rank = 0; rank < 4; ++rank) {
        double most = 0;
        for (int64_t j = 0; j < micro_batches; ++j) {
          std::vector<std::vector<int>> of_group;
          for (int64_t replica = rank / replicas * replicas; replica < (rank / replicas + 1) * replicas; ++replica) {
            of_group.push_back(k[static_cast<size_t>(replica * micro_batches + j)]);
          }
          most = std::max(most, highest(memory, of_group, static_cast<size_t>(rank % replicas)));
        }
        EXPECT_NEAR(trainer_rank_peak(job, rank, k, even).total.value, most, 1e-3) << parallelism << step << rank;
      }
    }
  }
}

// The terms of draws that all replicas share are those of these draws for all.
TEST(ExpertGroupMemory, MeetsTheSharedTermsWhereAllDrawAlike) {
  const Job job = job_of(R"({"expert": 4})");
  const ExpertPairs pairs(job, LoadByK(1, {2, 1.5, 1.25, 1.125}));  // whole rows
  const StageMemory shared = trainer_stage_memory(job, pairs);
  const GroupMemory memory = expert_group_memory(job, pairs);
  for (const std::vector<int>& k : {std::vector<int>{1, 1, 1}, {4, 4, 4}, {4, 1, 2}, {1, 2, 4}}) {
    double most = shared.least, kept = 0;
    for (size_t l = 0; l < 3; ++l) {
      const auto j = static_cast<size_t>(k[l] - 1);
      kept += shared.terms.slope * k[l] + (shared.terms.surplus.empty() ? 0 : shared.terms.surplus[l][j]);
      most = std::max(most, shared.constant + shared.terms.fixed[l] + kept + shared.terms.bump[l][j]);
    }
    EXPECT_NEAR(highest(memory, std::vector(4, k), 0), most, 1e-3);
  }
}

}  // namespace
}  // namespace mmoe
