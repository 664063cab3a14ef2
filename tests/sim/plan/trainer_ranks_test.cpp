#include "sim/plan/trainer_ranks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "sim/cluster/expert_load.h"
#include "sim/plan/cluster_plan.h"
#include "sim/plan/trainable.h"
#include "sim/plan/trainer_traffic.h"

namespace mmoe {
namespace {

Job job_of(const Overrides& overrides = {}) {
  const nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 512, "num_experts": 8,
              "expert_hidden_size": 32},
    "hardware": {"device": "cpu", "num_devices": 4}, "parallelism": {"pipeline": 2, "zero_stage": 1},
    "training": {"seq_len": 64, "micro_batch_size": 2, "global_batch_size": 16, "precision": "fp32"},
    "elastic": {"k_min": 1, "k_max": 4}})");
  return parse_job(json, "job.json", ".", overrides);
}

ClusterPlan plan_of(const Job& job) {
  return simulate_cluster(job, load_framework(job.training.framework, job.hardware.spec, "training.framework"));
}

TEST(TrainerRanks, ArePredictedWhereTheTrainerRunsTheJobOnCpus) {
  EXPECT_TRUE(predicts_trainer_ranks(job_of()));
  for (const auto& [key, value] : Overrides{{"parallelism.tensor", "2"},
                                            {"training.framework", "megatron_core"},
                                            {"training.recompute", R"(["moe_activation"])"},
                                            {"training.moe.dispatch", "padded"},
                                            {"elastic.sampling", "top_p"},
                                            {"hardware.device", "h100-sxm-80gb"}}) {
    const Job job = job_of({{key, value}});
    EXPECT_FALSE(predicts_trainer_ranks(job)) << key;
    EXPECT_TRUE(plan_of(job).trainer_peaks.empty()) << key;
  }
}

// The plan's worst draw is that of k_max everywhere, whose highest rank decides; no rank passes it at any step's draws.
TEST(TrainerRanks, StandForThePlansStages) {
  const Job job = job_of();
  const ClusterPlan plan = plan_of(job);
  const std::vector<std::vector<int>> most(8, std::vector<int>(4, 4));
  ASSERT_EQ(plan.ranks.size(), 2);
  for (int64_t stage = 0; stage < 2; ++stage) {
    const double peak = plan.ranks[static_cast<size_t>(stage)].worst.peak_allocated.value;
    EXPECT_EQ(peak, trainer_rank_peak(job, 2 * stage, most).total.value);
    for (int64_t step = 1; step <= 20; ++step) {
      const nlohmann::json ranks = trainer_step_json(job, step)["ranks"];
      ASSERT_EQ(ranks.size(), 4);
      for (const nlohmann::json& rank : ranks) {
        if (rank["stage"] != stage) continue;
        EXPECT_LE(rank["peak_allocated_bytes"].get<double>(), peak);
      }
    }
  }
  const nlohmann::json limiting = to_json(plan)["fit"]["limiting"];
  EXPECT_EQ(limiting["moment"], plan.trainer_peaks[limiting["stage"].get<size_t>()].moment);
}

// One device stands for its stage where all are alike; where they are not, the highest does.
TEST(TrainerRanks, StagePeaksAreThoseOfTheHighestDevice) {
  const std::string load = testing::TempDir() + "mmoe_trainer_ranks_uneven.json";
  std::ofstream(load) << "[1, 1, 1, 1, 1, 1, 1, 9]";
  int uneven = 0;
  for (const char* layout : {R"({"pipeline": 2, "zero_stage": 1})", R"({"expert": 2, "zero_stage": 3})",
                             R"({"expert": 4})", R"({"pipeline": 2, "virtual_pipeline": 2, "expert_tensor": 2})",
                             R"({"context": 2, "context_kind": "alltoall", "expert": 2, "zero_stage": 2})",
                             R"({"tensor": 2, "sequence": true, "expert": 2, "zero_stage": 1})"}) {
    for (const Overrides& more :
         {Overrides{}, Overrides{{"training.freeze", R"(["experts"])"}}, Overrides{{"training.moe.load", load}}}) {
      nlohmann::json json = to_json(job_of());
      json["parallelism"] = nlohmann::json::parse(layout);
      const Job job = parse_job(json, "job.json", ".", more);
      const std::vector<std::vector<int>> k(static_cast<size_t>(job.num_micro_batches() * job.data_parallel_size()),
                                            std::vector<int>(4, 3));
      std::vector<double> highest(static_cast<size_t>(job.parallelism.pipeline), 0);
      double least = 1e18;
      for (int64_t rank = 0; rank < 4; ++rank) {
        const double peak = trainer_rank_peak(job, rank, k).total.value;
        double& most = highest[static_cast<size_t>(rank * job.parallelism.pipeline / 4)];
        most = std::max(most, peak);
        least = std::min(least, peak);
      }
      const std::vector<TrainerRankPeak> stages = trainer_stage_peaks(job, 3);
      ASSERT_EQ(stages.size(), highest.size());
      for (size_t stage = 0; stage < stages.size(); ++stage) EXPECT_EQ(stages[stage].total.value, highest[stage]);
      uneven += job.parallelism.pipeline == 1 && least < highest[0];
    }
  }
  EXPECT_GT(uneven, 2);
}

// A budget lowers the worst draw; the causes still add up to the peak.
TEST(TrainerRanks, PeaksFollowTheBudget) {
  const ClusterPlan free = plan_of(job_of());
  const ClusterPlan bound = plan_of(job_of({{"elastic.budget", R"({"kind": "at_most", "sum_k": 5})"}}));
  EXPECT_LT(bound.ranks[0].worst.peak_allocated, free.ranks[0].worst.peak_allocated);
  for (const nlohmann::json& stage : to_json(bound)["memory"]["stages"]) {
    double sum = 0;
    for (const char* cause : {"weights", "gradients", "optimizer", "activations", "buffers"}) {
      sum += stage[std::string(cause) + "_bytes"].get<double>();
    }
    EXPECT_DOUBLE_EQ(sum, stage["peak_allocated_bytes"].get<double>());
  }
}

TEST(TrainerRanks, RemediesAreWhatTheTrainerRuns) {
  const Job job = job_of({{"model.hidden_size", "256"}, {"training.seq_len", "512"}});
  ClusterPlan plan = plan_of(job);
  Job tight = job;
  tight.hardware.usable_memory = plan.ranks[0].worst.peak_allocated * 0.8;
  plan = plan_of(tight);
  ASSERT_NE(plan.fit.verdict, FitVerdict::kFits);
  add_remedies(plan);
  EXPECT_FALSE(plan.fit.remedies.empty());
  for (const Remedy& remedy : plan.fit.remedies) {
    const Job changed = parse_job(to_json(job), "job.json", "/", remedy.settings);
    EXPECT_EQ(why_layout_is_not_trained(changed), std::nullopt) << remedy.change;
    EXPECT_EQ(why_model_is_not_trained(changed), std::nullopt) << remedy.change;
  }
}

TEST(TrainerRanks, StepsHaveTheDrawsOfEveryReplica) {
  Job job = job_of();
  const std::optional<StepDraws> draws(std::in_place, job);
  const auto apart = draws_of_all_replicas(job, draws, 3);
  ASSERT_EQ(apart.size(), 8);  // two replicas of four micro-batches
  EXPECT_FALSE(std::equal(apart.begin(), apart.begin() + 4, apart.begin() + 4));
  job.elastic.share = DrawSharing::kReplicas;
  const auto shared = draws_of_all_replicas(job, draws, 3);
  EXPECT_TRUE(std::equal(shared.begin(), shared.begin() + 4, shared.begin() + 4));
  EXPECT_EQ(draws_of_all_replicas(job, std::nullopt, 3), std::vector(8, std::vector<int>(4, 4)));
}

// Two replicas share experts: each sends half of a rank's rows, by its own draw.
TEST(TrainerRanks, GetRowsByEachReplicasOwnDraw) {
  const Overrides layout = {{"parallelism.expert", "2"}};
  const Job own = job_of(layout);
  Overrides sharing = layout;
  sharing.emplace_back("elastic.share", "replicas");
  const Job shared = job_of(sharing);
  const RankPeaks peaks = rank_peaks(own, load_framework(own.training.framework, own.hardware.spec, "framework"), 1);
  ASSERT_EQ(peaks.others, 1);
  for (size_t rank = 0; rank < 2; ++rank) {
    for (size_t j = 1; j < 4; ++j) {
      EXPECT_GT(peaks.from_other[rank][j], peaks.from_other[rank][j - 1]);
      EXPECT_LE(peaks.from_other[rank][j], peaks.added[rank][j] / 2);
    }
  }
  const Summary apart = plan_of(own).ranks[0].peak_allocated, together = plan_of(shared).ranks[0].peak_allocated;
  EXPECT_EQ(apart.max, together.max);
  EXPECT_LT(apart.std, together.std);
  // Of 400 steps the first rank's peak passes the 99th percentile in four; more than 17 happen once in 1e6 times.
  int passed = 0, above_median = 0;
  for (int64_t step = 1; step <= 400; ++step) {
    const double peak = trainer_step_json(own, step)["ranks"][0]["peak_allocated_bytes"].get<double>();
    passed += peak > apart.p99 + 1e-3;
    above_median += peak > apart.p50;
  }
  EXPECT_LE(passed, 17);
  EXPECT_GT(above_median, 0);
}

Job skewed_job(const std::string& parallelism, const std::string& load) {
  const std::string path = testing::TempDir() + "mmoe_trainer_ranks_load.json";
  std::ofstream(path) << load;
  nlohmann::json json = to_json(job_of());
  json["parallelism"] = nlohmann::json::parse(parallelism);
  json["training"]["moe"]["load"] = path;
  return parse_job(json, "job.json", ".");
}

double value_at(const StageMemory& memory, const RunningMaximumTerms& terms, const std::vector<int>& k) {
  double highest = memory.least, kept = 0;
  for (size_t l = 0; l < k.size(); ++l) {
    const auto j = static_cast<size_t>(k[l] - 1);
    kept += terms.slope * k[l] + (terms.surplus.empty() ? 0 : terms.surplus[l][j]);
    highest = std::max(highest, memory.constant + terms.fixed[l] + kept + terms.bump[l][j]);
  }
  return highest;
}

double value_at(const StageMemory& memory, const std::vector<int>& k) { return value_at(memory, memory.terms, k); }

// At draws that all replicas share the terms are the busiest rank's passes. What is rounded: sums of some 1e6 bytes.
TEST(TrainerStageMemory, IsTheBusiestRanksPeak) {
  for (const char* parallelism : {R"({"expert": 4})", R"({"expert": 2})", R"({"expert": 1})",
                                  R"({"expert": 2, "tensor": 2, "sequence": true})"}) {
    const Job job = skewed_job(parallelism, "[9, 1, 1, 1, 1, 1, 1, 1]");
    const StageMemory memory = trainer_stage_memory(job, ExpertPairs(job, expert_load_factor(job, 0)));
    for (const std::vector<int>& k : {std::vector<int>{1, 1, 1, 1}, {4, 4, 4, 4}, {4, 1, 1, 2}, {1, 2, 1, 4}}) {
      const std::vector<std::vector<int>> all(8, k);
      double busiest = 0;
      for (int64_t rank = 0; rank < 4; ++rank)
        busiest = std::max(busiest, trainer_rank_peak(job, rank, all).total.value);
      EXPECT_NEAR(value_at(memory, k), busiest, 1e-3) << parallelism;
    }
  }
}

// Rows by layer and k, of which the first two ranks are the busiest in turn: each rank's terms are its own passes.
TEST(TrainerStageMemory, HasEveryRanksRowsByK) {
  const std::string path = testing::TempDir() + "mmoe_trainer_ranks_load.jsonl";
  std::ofstream file(path);
  for (int k = 1; k <= 4; ++k) {
    nlohmann::json line;
    line["k_per_layer"] = std::vector(4, std::vector<int>(4, k));
    for (int layer = 0; layer < 4; ++layer) {
      std::vector<int> rows(8, 25 * k);  // of 200 tokens; one rank's experts are two
      const int busiest = layer % 2;
      for (int e = 0; e < 8; ++e)
        rows[e] = e / 2 == busiest ? 100 * std::min(k, 2) : (200 * k - 200 * std::min(k, 2)) / 6;
      line["moe"].push_back({{"tokens_per_expert", {{"by_expert", rows}}}});
    }
    file << line << '\n';
  }
  file.close();
  nlohmann::json json = to_json(job_of());
  json["parallelism"] = {{"expert", 4}};
  json["training"]["moe"]["load"] = path;
  const Job job = parse_job(json, "job.json", ".");
  const ExpertPairs pairs(job);
  EXPECT_NEAR(pairs.at(0, 0, 1), 1, 1e-6);
  EXPECT_NEAR(pairs.at(0, 0, 4), 2, 1e-6);  // a rank with two experts has no more to give
  const StageMemory memory = trainer_stage_memory(job, pairs);
  ASSERT_EQ(memory.others.size(), 3);
  for (const std::vector<int>& k : {std::vector<int>{1, 1, 1, 1}, {4, 4, 4, 4}, {4, 1, 1, 2}, {1, 2, 3, 4}}) {
    const std::vector<std::vector<int>> all(8, k);
    for (int64_t rank = 0; rank < 4; ++rank) {
      const RunningMaximumTerms& terms = rank == 0 ? memory.terms : memory.others[static_cast<size_t>(rank - 1)];
      EXPECT_NEAR(value_at(memory, terms, k), trainer_rank_peak(job, rank, all, pairs).total.value, 1e-3) << rank;
    }
  }
}

// Sums of gradients are in it: at the ends exactly, between them at least nearly.
TEST(TrainerStageMemory, CountsWhatZeroAdds) {
  const Job job = skewed_job(R"({"expert": 2, "zero_stage": 1})", "[9, 1, 1, 1, 1, 1, 1, 1]");
  const StageMemory memory = trainer_stage_memory(job, ExpertPairs(job, expert_load_factor(job, 0)));
  for (const int k : {1, 4}) {
    double busiest = 0;
    for (const TrainerRankPeak& peak : trainer_stage_peaks(job, k)) busiest = std::max(busiest, peak.total.value);
    EXPECT_GE(value_at(memory, {k, k, k, k}), busiest - 1e-3);
  }
}

}  // namespace
}  // namespace mmoe
