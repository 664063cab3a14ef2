#pragma once
// The pipelines of a search: how many ranks, which schedule, which layers on which of them.

#include <vector>

#include "sim/cluster/stages.h"
#include "sim/config/job.h"
#include "sim/framework/framework.h"
#include "sim/search/layout_space.h"

namespace mmoe {

// Stages of one pipeline and schedule, and the ranks that can hold its peak: of equal neighbours the first holds most
// micro-batches.
struct StagePlan {
  int64_t pipeline = 1, longest = 0;  // the longest chunk's layers
  ScheduleChoice schedule;
  std::vector<int64_t> stage_layers;
  bool is_variant = false;  // cut other than the job or the framework does
  PipelineStages stages;
  std::vector<int64_t> distinct_ranks;
  PipelineStages distinct;  // their chunks
};

// All of one number of ranks.
struct PipelinePlans {
  int64_t pipeline = 1, num_variants = 0;
  std::vector<StagePlan> plans;
};

// Whether two chunks take the same time and memory.
bool have_equal_content(const ModelConfig& model, const StageChunk& a, const StageChunk& b);

// Every pipeline that the space leaves open. Throws ConfigError where the job's own cut into stages is none of the
// model, or of no pipeline that it leaves open.
std::vector<PipelinePlans> pipeline_plans(const Job& job, const Framework& framework, const LayoutSpace& space);

}  // namespace mmoe
