#include "sim/plan/memory_timeline_json.h"

#include "sim/cluster/expert_load.h"
#include "sim/cluster/memory_model.h"
#include "sim/cluster/memory_timeline.h"
#include "sim/plan/cluster_time_law.h"
#include "sim/plan/step_draws.h"

namespace mmoe {
namespace {

const char* moment_of(const MemorySample& sample) {
  return sample.logits > 0 ? "loss" : sample.transient > 0 ? "backward" : "forward";
}

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
          {"peak", {{"bytes", rank.peak_bytes()}, {"seconds", peak.seconds}, {"moment", moment_of(peak)}}}};
}

}  // namespace

nlohmann::json memory_timeline_json(const Job& job, const Framework& framework) {
  const LoadByK load = expert_load_factor(job);
  const double time_k = mean_k(job);
  const auto play = [&](const DrawnK& k) {
    nlohmann::json ranks = nlohmann::json::array();
    for (const RankTimeline& rank : memory_timeline(job, framework, k, time_k, load)) ranks.push_back(to_json(rank));
    return ranks;
  };
  nlohmann::json draws;
  draws["k_max"] = play([&](int64_t, int64_t) { return static_cast<double>(job.elastic.k_max); });
  if (k_varies(job)) {
    const std::vector<std::vector<int>> drawn = StepDraws(job).draw(1);
    draws["drawn"] = play([&](int64_t micro_batch, int64_t layer) {
      return static_cast<double>(drawn[static_cast<std::size_t>(micro_batch)][static_cast<std::size_t>(layer)]);
    });
  }
  return {{"limit_bytes", allocatable_memory(job, framework).value}, {"draws", draws}};
}

}  // namespace mmoe
