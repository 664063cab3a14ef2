#include "sim/plan/cluster_time_law.h"

#include <cmath>
#include <optional>
#include <utility>

#include "sim/config/pipeline_layout.h"
#include "sim/elastic/elastic_law.h"
#include "sim/elastic/sampler.h"
#include "sim/elastic/window_sampler.h"
#include "sim/plan/rank_memory_law.h"
#include "sim/schedule/in_flight.h"
#include "sim/schedule/timeline.h"

namespace mmoe {
namespace {

bool draws(const Job& job) {
  return job.model.num_moe_layers() > 0 && job.elastic.sampling != Sampling::kTopP &&
         job.elastic.k_min < job.elastic.k_max;
}

// What a chunk takes that does not depend on the draw, and its MoE layers.
struct ChunkTimes {
  ChunkWork fixed;
  int64_t first_moe_layer = 0, num_moe_layers = 0;
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
                              chunk.num_moe_layers(job.model)});
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
      work.add(times.by_k[static_cast<std::size_t>(chosen - times.k_min)], 1);
    }
    return joined(work, times.time).of(pass.kind);
  });
  return simulate_pipeline(times.passes, seconds, times.transfers).total.value;
}

// A step's draws of one replica, [micro-batch][MoE layer]: each micro-batch on its own, or windows that keep a bound.
class StepDraws {
 public:
  StepDraws(const Job& job, const PipelineStages& stages)
      : job_(job), sampler_(job.elastic, static_cast<int>(job.model.num_moe_layers())) {
    if (!has_windows(job)) return;
    std::vector<int64_t> widths;
    for (std::size_t rank = 0; rank < stages.size(); ++rank) {
      const std::vector<ElasticChunk> chunks = elastic_chunks(job, stages[rank], static_cast<int64_t>(rank));
      if (!chunks.front().moe_layers.empty()) widths.push_back(chunks.front().in_flight);
    }
    window_.emplace(job.elastic, static_cast<int>(job.model.num_moe_layers()), std::move(widths));
  }
  std::vector<std::vector<int>> draw(int64_t step) const {
    const int64_t micro_batches = job_.num_micro_batches();
    if (window_) return window_->draw_step(job_.training.seed, step, 0, micro_batches);
    std::vector<std::vector<int>> k;
    for (int64_t j = 0; j < micro_batches; ++j) k.push_back(sampler_.draw(job_.training.seed, step, j));
    return k;
  }

 private:
  const Job& job_;
  KSampler sampler_;
  std::optional<WindowSampler> window_;
};

// Under window budgets: simulated, group by group.
double window_mean_k(const Job& job) {
  ElasticConfig free = job.elastic;
  free.budget.reset();
  double sum = 0;
  std::size_t group = 0;
  const auto layers = moe_layers_by_pipeline_rank(job.model, job.parallelism);
  for (std::size_t rank = 0; rank < layers.size(); ++rank) {
    if (layers[rank].empty()) continue;
    const DiscreteLaw one = ElasticLaw(free, static_cast<int>(layers[rank].size())).sum();
    const int64_t width = chunks_in_flight(pipeline_shape(job), static_cast<int64_t>(rank)).total();
    sum += window_law(one, job.elastic.budget->sum_k[group++], width, job.num_micro_batches()).mean_sum;
  }
  return sum / static_cast<double>(job.model.num_moe_layers());
}

}  // namespace

double mean_k(const Job& job) {
  if (!draws(job)) return job.elastic.k_max;
  if (has_windows(job)) return window_mean_k(job);
  const ElasticLaw law(job.elastic, static_cast<int>(job.model.num_moe_layers()));
  return law.sum().mean() / static_cast<double>(job.model.num_moe_layers());
}

ClusterTimeLaw cluster_time_law(const Job& job, const Framework& framework, double rows_factor, int64_t num_pipelines) {
  ClusterTimeLaw law;
  law.typical = cluster_step_time(job, framework, mean_k(job), rows_factor);
  if (!draws(job)) {
    law.step = ValueLaw({{law.typical.step(), 1.0}});
    return law;
  }
  const StepModel model(job, framework, mean_k(job), rows_factor);
  const PipelineStages stages = pipeline_stages(job, framework);
  const PipelineTimes times = pipeline_times(job, framework, model, stages);
  const StepDraws draws_of(job, stages);
  std::vector<std::pair<double, double>> outcomes;
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < num_pipelines; ++i) {
    const double pipeline = pipeline_seconds(times, draws_of.draw(i));
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
