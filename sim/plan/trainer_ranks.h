#pragma once
// Jobs of which every rank of our trainer is predicted, in place of the cluster model's pipeline ranks.

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "sim/cluster/expert_pairs.h"
#include "sim/cluster/memory_model.h"
#include "sim/cluster/memory_timeline.h"
#include "sim/config/job.h"
#include "sim/elastic/budget_tuner.h"
#include "sim/plan/step_draws.h"
#include "sim/plan/trainer_memory.h"

namespace mmoe {

// Whether trainer_rank_peak and trainer_traffic hold for the job: our trainer runs it, on 2 to 64 CPU devices, and how
// many experts are active is drawn (of top_p the tokens decide).
bool predicts_trainer_ranks(const Job& job);

// k of [global micro-batch][MoE layer], the replicas one after another; without `draws` k_max everywhere.
std::vector<std::vector<int>> draws_of_all_replicas(const Job& job, const std::optional<StepDraws>& draws,
                                                    int64_t step);

// Of each pipeline rank the memory over a step at these draws of [global micro-batch][MoE layer], of the device with
// the highest peak; passes run when they do in `step`.
std::vector<RankTimeline> trainer_timelines(const Job& job, const std::vector<std::vector<int>>& k,
                                            const PlayedStep& step);

// Of each pipeline rank the device with the highest peak, where every MoE layer of every micro-batch has k experts;
// with `other_k` as many in the replicas that are not the device's own.
std::vector<TrainerRankPeak> trainer_stage_peaks(const Job& job, int k, std::optional<int> other_k = {});

// Of the device with the highest peak, at these draws of [global micro-batch][MoE layer].
Bytes trainer_highest_peak(const Job& job, const std::vector<std::vector<int>>& k);

// Our trainer's rank in the cluster model's terms, at a draw with a peak of `total`: on CPUs as much is reserved as
// allocated.
RankMemory rank_memory(const TrainerRankPeak& peak, double total);

// Of each pipeline rank with k active experts in every MoE layer of every micro-batch: our trainer's where
// predicts_trainer_ranks, else the cluster model's with `rows_factor` times balanced rows.
std::vector<RankMemory> rank_memories(const Job& job, const Framework& framework, int k, double rows_factor);

// Bytes of each pipeline rank at its peak over the k of the job's range.
struct RankPeaks {
  std::vector<RankMemory> least, most;     // [rank]: at k_min and k_max
  std::vector<std::vector<double>> added;  // [rank][k - k_min], over k_min, rising: k in all layers in flight
  // Replicas beside the rank's own that send rows to its experts and draw on their own, and what of `added` the k of
  // each gives. Rows come from all alike.
  int64_t others = 0;
  std::vector<std::vector<double>> from_other;
};
// Data-parallel replicas that draw on their own and share experts.
int64_t replicas_that_draw(const Job& job);
RankPeaks rank_peaks(const Job& job, const Framework& framework, const LoadByK& load);

// Of a job without pipeline ranks: the devices of one expert group, whose rows are as `pairs` says, at a draw of k that
// all its replicas share (else expert_group_memory).
StageMemory trainer_stage_memory(const Job& job, const ExpertPairs& pairs);

// One step at the draws that the trainer takes for the job's seed: `step`; `ranks[]` with rank, stage,
// peak_allocated_bytes, persistent_bytes and moment; `traffic`, by group and collective calls and bytes of all ranks
// together. Peaks are those of steps from the second on.
nlohmann::json trainer_step_json(const Job& job, int64_t step);

}  // namespace mmoe
