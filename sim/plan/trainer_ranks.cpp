#include "sim/plan/trainer_ranks.h"

#include <algorithm>
#include <iterator>

#include "sim/memory/peak_terms.h"
#include "sim/network/rank_groups.h"
#include "sim/plan/expert_group_memory.h"
#include "sim/plan/step_draws.h"
#include "sim/plan/trainable.h"
#include "sim/plan/trainer_traffic.h"
#include "sim/units/errors.h"

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

// Whether the devices of a pipeline rank allocate alike where all micro-batches have the same k: their parts of the
// model are of equal sizes, but frozen weights lie where they lie, and measured loads say which experts get more.
bool ranks_of_a_stage_are_alike(const Job& job) {
  const bool equal_rows = job.parallelism.expert == 1 || job.training.moe.load != LoadKind::kMeasured;
  return equal_rows && job.training.freeze.empty();
}

struct RankPeak {
  int64_t rank;
  TrainerRankPeak peak;
};

// Of each pipeline rank the device with the highest peak, each at its draws_of(rank), of equal ones the first; every
// `stride`-th is tried.
template <class DrawsOf>
std::vector<RankPeak> highest_by_stage(const Job& job, const DrawsOf& draws_of, int64_t stride = 1) {
  std::vector<RankPeak> stages(static_cast<size_t>(job.parallelism.pipeline));
  for (int64_t rank = 0; rank < job.hardware.num_devices; rank += stride) {
    const TrainerRankPeak peak = trainer_rank_peak(job, rank, draws_of(rank));
    RankPeak& highest = stages[static_cast<size_t>(stage_of(job, rank))];
    if (peak.total > highest.peak.total) highest = {rank, peak};
  }
  return stages;
}

RankTimeline timeline_of(const Job& job, const RankPeak& highest, const std::vector<std::vector<int>>& k,
                         const PlayedStep& step) {
  RankTimeline timeline{.held = rank_memory(highest.peak, highest.peak.total.value).held, .samples = {}};
  const auto add_highest = [&](Seconds when, const PassMemory& pass) {
    const bool is_loss = pass.moment == "loss head";
    timeline.add({when.value, pass.kept, is_loss ? pass.above : 0, is_loss ? 0 : pass.above, pass.moment});
  };
  const std::vector<PassMemory> passes = trainer_pass_memory(job, highest.rank, k);
  const auto first = static_cast<size_t>(step.passes.rank_begin[stage_of(job, highest.rank)]);
  for (size_t i = 0; i + 1 < passes.size(); ++i) {
    add_highest(step.times.start[first + i], passes[i]);
    timeline.add({step.times.finish[first + i].value, passes[i].after, 0, 0, passes[i].moment});
  }
  add_highest(step.times.total, passes.back());
  return timeline;
}

}  // namespace

bool predicts_trainer_ranks(const Job& job) {
  const int64_t devices = job.hardware.num_devices;
  return job.hardware.spec.is_cpu && devices > 1 && devices <= kMostRanks && job.elastic.sampling != Sampling::kTopP &&
         job.training.moe.dispatch == DispatchKind::kDropless && job.training.precision != Precision::kFp8 &&
         trainer_runs(job);
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

std::vector<RankTimeline> trainer_timelines(const Job& job, const std::vector<std::vector<int>>& k,
                                            const PlayedStep& step) {
  std::vector<RankTimeline> timelines;
  const auto same = [&](int64_t) -> const std::vector<std::vector<int>>& { return k; };
  for (const RankPeak& highest : highest_by_stage(job, same)) {
    timelines.push_back(timeline_of(job, highest, k, step));
  }
  return timelines;
}

std::vector<TrainerRankPeak> trainer_stage_peaks(const Job& job, int k, std::optional<int> other_k) {
  const std::vector<std::vector<int>> draws = equal_draws(job, other_k.value_or(k));
  const RankGroup data = rank_groups(job.parallelism, job.hardware.num_devices).data;
  const auto of_rank = [&](int64_t rank) {
    std::vector<std::vector<int>> of_all = draws;
    const auto own = of_all.begin() + position_in(data, rank) * job.num_micro_batches();
    for (auto drawn = own; drawn != own + job.num_micro_batches(); ++drawn) drawn->assign(drawn->size(), k);
    return of_all;
  };
  const int64_t stride = ranks_of_a_stage_are_alike(job) ? job.hardware.num_devices / job.parallelism.pipeline : 1;
  std::vector<TrainerRankPeak> stages;
  for (RankPeak& highest : highest_by_stage(job, of_rank, stride)) stages.push_back(std::move(highest.peak));
  return stages;
}

Bytes trainer_highest_peak(const Job& job, const std::vector<std::vector<int>>& k) {
  Bytes highest;
  for (int64_t rank = 0; rank < job.hardware.num_devices; ++rank) {
    highest = std::max(highest, trainer_rank_peak(job, rank, k).total);
  }
  return highest;
}

RankMemory rank_memory(const TrainerRankPeak& peak, double total) {
  RankMemory memory;
  memory.held.weights = peak.weights;
  memory.held.gradients = peak.gradients;
  memory.held.optimizer = peak.optimizer;
  memory.held.buffers = peak.buffers;
  memory.static_bytes = peak.persistent();
  memory.activations = Bytes{total} - peak.persistent();
  memory.peak_allocated = memory.peak_reserved = Bytes{total};
  return memory;
}

std::vector<RankMemory> rank_memories(const Job& job, const Framework& framework, int k, double rows_factor) {
  if (!predicts_trainer_ranks(job)) return cluster_memory(job, framework, k, rows_factor);
  std::vector<RankMemory> memories;
  for (const TrainerRankPeak& peak : trainer_stage_peaks(job, k))
    memories.push_back(rank_memory(peak, peak.total.value));
  return memories;
}

int64_t replicas_that_draw(const Job& job) {
  const bool shared =
      job.elastic.share == DrawSharing::kReplicas || job.elastic.granularity == Granularity::kGlobalBatch;
  return shared ? 1 : replicas_in_expert_group(job);
}

RankPeaks rank_peaks(const Job& job, const Framework& framework, const LoadByK& load) {
  const bool is_ours = predicts_trainer_ranks(job);
  RankPeaks peaks;
  if (job.elastic.k_min < job.elastic.k_max) peaks.others = replicas_that_draw(job) - 1;
  const auto others = static_cast<double>(peaks.others);
  // Bytes that each other replica's k gives, up to what is the same at every k.
  const auto from_each = [&](size_t rank, const std::vector<RankMemory>& without) {
    const double bytes = (peaks.most[rank].peak_allocated - without[rank].peak_allocated).value;
    // With the others at k_min all of theirs is gone; half of the rows are half of what all replicas' rows take.
    return is_ours ? bytes / others : 2 * bytes / (others + 1);
  };
  std::vector<double> least_of_each;  // [rank]
  for (int k = job.elastic.k_min; k <= job.elastic.k_max; ++k) {
    peaks.most = rank_memories(job, framework, k, load.at(k));
    std::vector<double> of_each(peaks.most.size(), 0);
    if (peaks.others > 0) {
      std::vector<RankMemory> without;
      if (is_ours) {
        for (const TrainerRankPeak& peak : trainer_stage_peaks(job, k, job.elastic.k_min))
          without.push_back(rank_memory(peak, peak.total.value));
      } else {
        without = cluster_memory(job, framework, k, load.at(k) / 2);
      }
      for (size_t rank = 0; rank < of_each.size(); ++rank) of_each[rank] = from_each(rank, without);
    }
    if (k == job.elastic.k_min) {
      peaks.least = peaks.most;
      least_of_each = of_each;
      peaks.added.assign(peaks.most.size(), {0});
      peaks.from_other.assign(peaks.most.size(), {0});
      continue;
    }
    for (size_t rank = 0; rank < peaks.most.size(); ++rank) {
      std::vector<double>&added = peaks.added[rank], &from_other = peaks.from_other[rank];
      const double now = peaks.most[rank].peak_allocated.value - peaks.least[rank].peak_allocated.value;
      added.push_back(std::max(added.back(), now));
      // What the own k gives rises with it too, by no less than what another's does.
      const double most = from_other.back() + (added.back() - added[added.size() - 2]) / (others + 1);
      from_other.push_back(std::clamp(of_each[rank] - least_of_each[rank], from_other.back(), most));
    }
  }
  return peaks;
}

StageMemory trainer_stage_memory(const Job& job, const ExpertPairs& pairs) {
  MMOE_CHECK(job.parallelism.pipeline == 1 && job.elastic.k_max > job.elastic.k_min) << job.parallelism.pipeline;
  const int k_min = job.elastic.k_min, k_max = job.elastic.k_max;
  const bool split = job.parallelism.expert * job.parallelism.expert_tensor > 1;
  // What sums of gradients and gathered weights add to the layers' own peaks does not depend on the load.
  Job balanced = job;
  balanced.training.moe.load = LoadKind::kBalanced;
  const Bytes persistent = trainer_stage_peaks(balanced, k_max).front().persistent();
  const auto terms_at = [&](const ExpertPairs& load, int64_t rank) {
    const auto memory_of = [&](int64_t layer, int k) {
      if (!split || !job.model.is_moe_layer(layer)) return layer_memory(job, layer, k);
      const int64_t tokens = own_tokens(job) * job.parallelism.expert;
      const double rows = load.at(rank, layer - job.model.num_dense_layers, k) * static_cast<double>(tokens);
      return layer_memory(job, layer, k, {rows, rows * static_cast<double>(job.parallelism.expert_tensor)});
    };
    const int64_t moe_layer = job.model.num_dense_layers;
    const double added = memory_of(moe_layer, k_max).kept - memory_of(moe_layer, k_min).kept;
    const double slope = std::max(0.0, added / static_cast<double>(k_max - k_min));
    return peak_terms(job, persistent, slope, memory_of);
  };
  const PeakTerms alone = terms_at(ExpertPairs(job, 1), 0);
  double added = 0;
  for (const int k : {k_min, k_max}) {
    double peak = alone.least.value, sum = 0;
    for (size_t l = 0; l < alone.terms.fixed.size(); ++l) {
      sum += k;
      peak = std::max(peak, persistent.value + alone.terms.fixed[l] + alone.terms.slope * sum +
                                alone.terms.bump[l][static_cast<size_t>(k - k_min)]);
    }
    added = std::max(added, trainer_stage_peaks(balanced, k).front().total.value - peak);
  }
  const PeakTerms first = terms_at(pairs, 0);
  StageMemory stage{persistent.value + added, first.least.value + added, first.terms};
  for (int64_t rank = 1; rank < pairs.num_ranks(); ++rank) stage.others.push_back(terms_at(pairs, rank).terms);
  return stage;
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
