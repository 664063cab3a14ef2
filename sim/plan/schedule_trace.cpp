#include "sim/plan/schedule_trace.h"

#include "sim/cluster/expert_load.h"
#include "sim/cluster/memory_timeline.h"
#include "sim/plan/cluster_time_law.h"
#include "sim/schedule/trace.h"

namespace mmoe {

nlohmann::json schedule_trace(const Job& job, const Framework& framework) {
  const double k = mean_k(job);
  const LoadByK load = expert_load_factor(job);
  const StepModel model(job, framework, k, load);
  const std::vector<ChunkSeconds> chunks = model.stages(pipeline_stages(job, framework)).chunks;
  const PipelinePasses passes = pipeline_passes(pipeline_shape(job));
  const Transfers transfers = model.transfers();
  nlohmann::json trace =
      chrome_trace_json(passes, simulate_pipeline(passes, pass_seconds(passes, chunks), transfers), transfers);
  // A counter of each rank's memory beside its passes.
  const std::vector<RankTimeline> memory = memory_timeline(
      job, framework, [k](int64_t, int64_t) { return k; }, k, load);
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
