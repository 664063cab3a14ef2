#include "sim/plan/memory_timeline_json.h"

#include "sim/cluster/expert_load.h"
#include "sim/cluster/memory_model.h"
#include "sim/cluster/memory_timeline.h"
#include "sim/plan/cluster_time_law.h"
#include "sim/plan/step_draws.h"
#include "sim/plan/trainer_ranks.h"

namespace mmoe {
namespace {

nlohmann::json to_json(const RankTimeline& rank) {
  nlohmann::json samples = nlohmann::json::array();
  for (const MemorySample& s : rank.samples) samples.push_back({s.seconds, s.activations, s.logits, s.transient});
  const MemorySample& peak = rank.samples[rank.peak];
  return {{"held_bytes",
           {{"weights", rank.held.weights.value},
            {"gradients", rank.held.gradients.value},
            {"optimizer", rank.held.optimizer.value},
            {"workspaces", rank.held.workspaces.value},
            {"buffers", rank.held.buffers.value}}},
          {"samples", samples},
          {"peak", {{"bytes", rank.peak_bytes()}, {"seconds", peak.seconds}, {"moment", peak.moment}}}};
}

}  // namespace

nlohmann::json memory_timeline_json(const Job& job, const Framework& framework) {
  const LoadByK load = expert_load_factor(job);
  const PlayedStep step = play_step(job, framework, mean_k(job), load);
  // With every MoE layer at k_max, or at the first step's draws.
  const auto play = [&](const std::optional<StepDraws>& step_draws) {
    if (predicts_trainer_ranks(job)) {
      return trainer_timelines(job, draws_of_all_replicas(job, step_draws, 1), step);
    }
    const auto drawn = step_draws ? step_draws->draw(1) : std::vector<std::vector<int>>();
    const DrawnK k = [&](int64_t micro_batch, int64_t layer) {
      return drawn.empty()
                 ? static_cast<double>(job.elastic.k_max)
                 : static_cast<double>(drawn[static_cast<std::size_t>(micro_batch)][static_cast<std::size_t>(layer)]);
    };
    return memory_timeline(job, framework, k, step, load);
  };
  nlohmann::json draws;
  for (const RankTimeline& rank : play(std::nullopt)) draws["k_max"].push_back(to_json(rank));
  if (k_varies(job)) {
    for (const RankTimeline& rank : play(std::optional<StepDraws>(std::in_place, job)))
      draws["drawn"].push_back(to_json(rank));
  }
  return {{"limit_bytes", allocatable_memory(job, framework).value}, {"draws", draws}};
}

}  // namespace mmoe
