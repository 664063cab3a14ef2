#include "sim/search/stage_plans.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "sim/config/sections.h"

namespace mmoe {
namespace {

StagePlan stage_plan(const Job& job, const Framework& framework) {
  const ParallelismConfig& p = job.parallelism;
  StagePlan plan{.pipeline = p.pipeline,
                 .schedule = {p.schedule, p.virtual_pipeline},
                 .stage_layers = p.stage_layers,
                 .is_variant = !job.given.contains("parallelism.stage_layers") && !p.stage_layers.empty(),
                 .stages = pipeline_stages(job, framework),
                 .distinct_ranks = {},
                 .distinct = {}};
  const auto alike = [&](const StageChunk& a, const StageChunk& b) { return have_equal_content(job.model, a, b); };
  for (std::size_t rank = 0; rank < plan.stages.size(); ++rank) {
    const std::vector<StageChunk>& chunks = plan.stages[rank];
    for (const StageChunk& chunk : chunks) plan.longest = std::max(plan.longest, chunk.num_layers);
    if (rank > 0 && std::equal(chunks.begin(), chunks.end(), plan.stages[rank - 1].begin(), alike)) continue;
    plan.distinct_ranks.push_back(static_cast<int64_t>(rank));
    plan.distinct.push_back(plan.stages[rank]);
  }
  return plan;
}

void check_stage_layers(const Job& job, bool has_plans) {
  const std::vector<int64_t>& layers = job.parallelism.stage_layers;
  if (layers.empty()) return;
  const bool is_negative = *std::min_element(layers.begin(), layers.end()) < 0;
  if (is_negative || std::accumulate(layers.begin(), layers.end(), int64_t{0}) != job.model.num_layers) {
    throw ConfigError(about(job.where, "parallelism.stage_layers", layers) +
                      "must add up to model.num_layers = " + std::to_string(job.model.num_layers));
  }
  if (!has_plans) {
    throw ConfigError(about(job.where, "parallelism.stage_layers", layers) + "lists " + std::to_string(layers.size()) +
                      " chunks, and no pipeline x virtual_pipeline that the job leaves open has as many; leave one of "
                      "the three open");
  }
}

}  // namespace

bool have_equal_content(const ModelConfig& model, const StageChunk& a, const StageChunk& b) {
  return a.num_layers == b.num_layers && a.embedding == b.embedding && a.head == b.head &&
         a.num_moe_layers(model) == b.num_moe_layers(model);
}

std::vector<PipelinePlans> pipeline_plans(const Job& job, const Framework& framework, const LayoutSpace& space) {
  std::vector<PipelinePlans> pipelines;
  Job staged = job;
  for (const int64_t pipeline : space.pipelines) {
    PipelinePlans plans{.pipeline = pipeline, .num_variants = 0, .plans = {}};
    staged.parallelism.pipeline = pipeline;
    for (const ScheduleChoice& choice : space.schedules(pipeline)) {
      staged.parallelism.virtual_pipeline = choice.virtual_pipeline;
      staged.parallelism.schedule = choice.schedule;
      for (std::vector<int64_t>& cut : space.stage_cuts(pipeline, choice)) {
        staged.parallelism.stage_layers = std::move(cut);
        plans.plans.push_back(stage_plan(staged, framework));
        plans.num_variants += plans.plans.back().is_variant ? 1 : 0;
      }
    }
    if (!plans.plans.empty()) pipelines.push_back(std::move(plans));
  }
  check_stage_layers(job, !pipelines.empty());
  return pipelines;
}

}  // namespace mmoe
