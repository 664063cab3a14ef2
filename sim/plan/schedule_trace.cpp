#include "sim/plan/schedule_trace.h"

#include "sim/cluster/expert_load.h"
#include "sim/plan/cluster_time_law.h"
#include "sim/schedule/trace.h"

namespace mmoe {

nlohmann::json schedule_trace(const Job& job, const Framework& framework) {
  const StepModel model(job, framework, mean_k(job), expert_load_factor(job));
  const std::vector<ChunkSeconds> chunks = model.stages(pipeline_stages(job, framework)).chunks;
  const PipelinePasses passes = pipeline_passes(pipeline_shape(job));
  const Transfers transfers = model.transfers();
  const std::vector<Seconds> seconds = pass_table(passes, [&](int64_t rank, const Pass& pass) {
    return chunks[static_cast<std::size_t>(rank * passes.shape.virtual_pipeline + pass.chunk)].of(pass.kind);
  });
  return chrome_trace_json(passes, simulate_pipeline(passes, seconds, transfers), transfers);
}

}  // namespace mmoe
