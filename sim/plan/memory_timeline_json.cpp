#include "sim/plan/memory_timeline_json.h"

#include <map>

#include "sim/cluster/expert_load.h"
#include "sim/cluster/memory_timeline.h"
#include "sim/elastic/sampler.h"
#include "sim/plan/cluster_time_law.h"

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
  const double rows_factor = expert_load_factor(job), time_k = mean_k(job);
  const auto play = [&](const DrawnK& k) {
    nlohmann::json ranks = nlohmann::json::array();
    for (const RankTimeline& rank : memory_timeline(job, framework, k, time_k, rows_factor))
      ranks.push_back(to_json(rank));
    return ranks;
  };
  nlohmann::json draws;
  draws["k_max"] = play([&](int64_t, int64_t) { return static_cast<double>(job.elastic.k_max); });
  if (job.model.num_moe_layers() > 0 && job.elastic.k_min < job.elastic.k_max &&
      job.elastic.sampling != Sampling::kTopP) {
    const KSampler sampler(job.elastic, static_cast<int>(job.model.num_moe_layers()));
    std::map<int64_t, std::vector<int>> drawn;
    for (int64_t i = 0; i < job.num_micro_batches(); ++i) drawn[i] = sampler.draw(job.training.seed, 1, i);
    draws["drawn"] = play([&](int64_t micro_batch, int64_t layer) {
      return static_cast<double>(drawn.at(micro_batch)[static_cast<std::size_t>(layer)]);
    });
  }
  return {{"limit_bytes", job.hardware.usable_memory.value - framework.memory.context_bytes}, {"draws", draws}};
}

}  // namespace mmoe
