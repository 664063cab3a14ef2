#include "sim/plan/trainer_ranks.h"

#include <algorithm>
#include <iterator>

#include "sim/network/rank_groups.h"
#include "sim/plan/step_draws.h"
#include "sim/plan/trainable.h"
#include "sim/plan/trainer_traffic.h"

namespace mmoe {
namespace {

constexpr int64_t kMostRanks = 64;  // their passes are played one by one

int64_t stage_of(const Job& job, int64_t rank) {
  return position_in(rank_groups(job.parallelism, job.hardware.num_devices).pipeline, rank);
}

std::vector<std::vector<int>> equal_draws(const Job& job, int k) {
  return std::vector(static_cast<size_t>(job.num_micro_batches() * job.data_parallel_size()),
                     std::vector<int>(static_cast<size_t>(job.model.num_moe_layers()), k));
}

}  // namespace

bool predicts_trainer_ranks(const Job& job) {
  const int64_t devices = job.hardware.num_devices;
  return job.hardware.spec.is_cpu && devices > 1 && devices <= kMostRanks && job.elastic.sampling != Sampling::kTopP &&
         job.training.moe.dispatch == DispatchKind::kDropless && job.training.precision != Precision::kFp8 &&
         !why_model_is_not_trained(job) && !why_layout_is_not_trained(job);
}

std::vector<std::vector<int>> draws_of_all_replicas(const Job& job, const std::optional<StepDraws>& draws,
                                                    int64_t step) {
  if (!draws) return equal_draws(job, job.elastic.k_max);
  std::vector<std::vector<int>> k;
  const int64_t in_replica = job.num_micro_batches();
  const bool shared = job.elastic.share == DrawSharing::kReplicas;
  for (int64_t replica = 0; replica < job.data_parallel_size(); ++replica) {
    std::vector<std::vector<int>> drawn = draws->draw(step, shared ? 0 : replica * in_replica);
    std::move(drawn.begin(), drawn.end(), std::back_inserter(k));
  }
  return k;
}

std::vector<TrainerRankPeak> trainer_stage_peaks(const Job& job, int k) {
  const std::vector<std::vector<int>> draws = equal_draws(job, k);
  std::vector<TrainerRankPeak> stages(static_cast<size_t>(job.parallelism.pipeline));
  for (int64_t rank = 0; rank < job.hardware.num_devices; ++rank) {
    const TrainerRankPeak peak = trainer_rank_peak(job, rank, draws);
    TrainerRankPeak& highest = stages[static_cast<size_t>(stage_of(job, rank))];
    if (peak.total > highest.total) highest = peak;
  }
  return stages;
}

nlohmann::json trainer_step_json(const Job& job, int64_t step) {
  const auto draws = k_varies(job) ? std::optional<StepDraws>(std::in_place, job) : std::nullopt;
  const std::vector<std::vector<int>> k = draws_of_all_replicas(job, draws, step);
  nlohmann::json ranks = nlohmann::json::array(), traffic = nlohmann::json::object();
  for (int64_t rank = 0; rank < job.hardware.num_devices; ++rank) {
    const TrainerRankPeak peak = trainer_rank_peak(job, rank, k);
    ranks.push_back({{"rank", rank},
                     {"stage", stage_of(job, rank)},
                     {"peak_allocated_bytes", peak.total.value},
                     {"persistent_bytes", peak.persistent().value},
                     {"moment", peak.moment}});
  }
  for (const auto& [group, collectives] : trainer_traffic(job, k)) {
    for (const auto& [name, sum] : collectives) traffic[group][name] = {{"calls", sum.calls}, {"bytes", sum.bytes}};
  }
  return {{"step", step}, {"ranks", ranks}, {"traffic", traffic}};
}

}  // namespace mmoe
