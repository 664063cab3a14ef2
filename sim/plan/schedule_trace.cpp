#include "sim/plan/schedule_trace.h"

#include "sim/cluster/expert_load.h"
#include "sim/cluster/memory_timeline.h"
#include "sim/plan/cluster_time_law.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/schedule/trace.h"

namespace mmoe {

nlohmann::json schedule_trace(const Job& job, const Framework& framework) {
  const double k = mean_k(job);
  const LoadByK load = expert_load_factor(job);
  const PlayedStep step = play_step(job, framework, k, load);
  nlohmann::json trace = chrome_trace_json(step.passes, step.times, step.transfers);
  // A counter of each rank's memory beside its passes, at the mean k or, of our trainer's ranks, the first step's
  // draws.
  const auto draws = k_varies(job) ? std::optional<StepDraws>(std::in_place, job) : std::nullopt;
  const std::vector<RankTimeline> memory = predicts_trainer_ranks(job)
                                               ? trainer_timelines(job, draws_of_all_replicas(job, draws, 1), step)
                                               : memory_timeline(
                                                     job, framework, [k](int64_t, int64_t) { return k; }, step, load);
  for (std::size_t rank = 0; rank < memory.size(); ++rank) {
    const double held = memory[rank].held.total().value;
    for (const MemorySample& sample : memory[rank].samples) {
      trace["traceEvents"].push_back({{"ph", "C"},
                                      {"name", "memory, bytes"},
                                      {"pid", rank},
                                      {"ts", sample.seconds * 1e6},
                                      {"args",
                                       {{"states", held},
                                        {"activations", sample.activations},
                                        {"loss", sample.logits},
                                        {"layer at work", sample.transient}}}});
    }
  }
  return trace;
}

}  // namespace mmoe
