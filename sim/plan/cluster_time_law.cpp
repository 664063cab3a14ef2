#include "sim/plan/cluster_time_law.h"

#include <cmath>

#include "sim/elastic/elastic_law.h"
#include "sim/elastic/window_sampler.h"
#include "sim/plan/rank_memory_law.h"
#include "sim/plan/step_draws.h"
#include "sim/schedule/timeline.h"

namespace mmoe {
namespace {

// What a chunk takes that does not depend on the draw, and its MoE layers.
struct ChunkTimes {
  ChunkWork fixed;
  int64_t first_moe_layer = 0, num_moe_layers = 0, num_recomputed = 0;
};

struct PipelineTimes {
  PipelinePasses passes;
  Transfers transfers;
  std::vector<ChunkTimes> chunks;  // [rank * v + chunk]
  std::vector<LayerSeconds> by_k;  // [k - k_min]: one MoE layer
  int k_min = 1;
  TimeParameters time;
};

PipelineTimes pipeline_times(const Job& job, const Framework& framework, const StepModel& model,
                             const PipelineStages& stages) {
  PipelineTimes times;
  times.passes = pipeline_passes(pipeline_shape(job));
  times.transfers = model.transfers();
  times.k_min = job.elastic.k_min;
  for (int k = job.elastic.k_min; k <= job.elastic.k_max; ++k) times.by_k.push_back(model.moe_layer(k));
  for (const auto& rank : stages) {
    for (const StageChunk& chunk : rank) {
      times.chunks.push_back({model.fixed_work(chunk),
                              std::max<int64_t>(0, chunk.first_layer - job.model.num_dense_layers),
                              chunk.num_moe_layers(job.model), recomputed_layers(job, chunk).moe});
    }
  }
  times.time = framework.time;
  return times;
}

// One replica's schedule with the k of its micro-batches ([micro-batch][MoE layer]).
double pipeline_seconds(const PipelineTimes& times, const std::vector<std::vector<int>>& k) {
  const int64_t v = times.passes.shape.virtual_pipeline;
  const std::vector<Seconds> seconds = pass_table(times.passes, [&](int64_t rank, const Pass& pass) {
    const ChunkTimes& chunk = times.chunks[static_cast<std::size_t>(rank * v + pass.chunk)];
    ChunkWork work = chunk.fixed;
    const std::vector<int>& drawn = k[static_cast<std::size_t>(pass.micro_batch)];
    for (int64_t layer = 0; layer < chunk.num_moe_layers; ++layer) {
      const int chosen = drawn[static_cast<std::size_t>(chunk.first_moe_layer + layer)];
      work.add(times.by_k[static_cast<std::size_t>(chosen - times.k_min)], 1, layer < chunk.num_recomputed ? 1 : 0);
    }
    return joined(work, times.time).of(pass.kind);
  });
  return simulate_pipeline(times.passes, seconds, times.transfers).total.value;
}

// Under window budgets: simulated, group by group.
double window_mean_k(const Job& job) {
  const Budget& budget = *job.elastic.budget;
  const std::vector<int64_t> widths = window_widths(job);
  double sum = 0;
  for (std::size_t group = 0; group < widths.size(); ++group) {
    const DiscreteLaw free = free_sum(job.elastic, budget.groups[group]);
    sum += window_law(free, budget.sum_k[group], widths[group], job.num_micro_batches()).mean_sum;
  }
  return sum / static_cast<double>(job.model.num_moe_layers());
}

}  // namespace

double mean_k(const Job& job) {
  if (!k_varies(job)) return job.elastic.k_max;
  if (has_windows(job)) return window_mean_k(job);
  const ElasticLaw law(job.elastic, static_cast<int>(job.model.num_moe_layers()));
  return law.sum().mean() / static_cast<double>(job.model.num_moe_layers());
}

ClusterTimeLaw cluster_time_law(const Job& job, const Framework& framework, const LoadByK& load,
                                int64_t num_pipelines) {
  ClusterTimeLaw law;
  law.typical = cluster_step_time(job, framework, mean_k(job), load);
  if (!k_varies(job)) {
    law.step = ValueLaw({{law.typical.step(), 1.0}});
    return law;
  }
  const StepModel model(job, framework, mean_k(job), load);
  const PipelineStages stages = pipeline_stages(job, framework);
  const PipelineTimes times = pipeline_times(job, framework, model, stages);
  const StepDraws draws(job);
  std::vector<std::pair<double, double>> outcomes;
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < num_pipelines; ++i) {
    const double pipeline = pipeline_seconds(times, draws.draw(i));
    outcomes.emplace_back(pipeline, 1.0);
    sum += pipeline;
    squares += pipeline * pipeline;
  }
  const auto n = static_cast<double>(num_pipelines);
  const double mean = sum / n;
  law.standard_error = std::sqrt(std::max(0.0, squares / n - mean * mean) / n);
  const ValueLaw one(std::move(outcomes));
  const bool shared =
      job.elastic.share == DrawSharing::kReplicas || job.elastic.granularity == Granularity::kGlobalBatch;
  const ValueLaw slowest = shared ? one : one.maximum(static_cast<double>(job.data_parallel_size()));
  law.straggling_seconds = slowest.mean() - one.mean();
  // What follows the pipeline is the same in every step.
  const ClusterStepTime& typical = law.typical;
  const double tail = typical.data_transfers + typical.optimizer + typical.stragglers + typical.fixed;
  law.step = slowest.scaled(1, tail);
  return law;
}

}  // namespace mmoe
