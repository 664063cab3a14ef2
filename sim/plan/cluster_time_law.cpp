#include "sim/plan/cluster_time_law.h"

#include <cmath>

#include "sim/elastic/elastic_law.h"
#include "sim/elastic/window_sampler.h"
#include "sim/plan/rank_memory_law.h"
#include "sim/plan/step_draws.h"

namespace mmoe {
namespace {

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

DrawnStepTimes::DrawnStepTimes(const Job& job, const Framework& framework, const LoadByK& load)
    : time_(framework.time), passes_(pipeline_passes(pipeline_shape(job))), k_min_(job.elastic.k_min) {
  const StepModel model(job, framework, mean_k(job), load);
  const PipelineStages stages = pipeline_stages(job, framework);
  typical_ = model.step(stages);
  transfers_ = model.transfers();
  if (job.model.num_moe_layers() > 0) {
    for (int k = job.elastic.k_min; k <= job.elastic.k_max; ++k) by_k_.push_back(model.moe_layer(k));
  }
  for (const auto& rank : stages) {
    for (const StageChunk& chunk : rank) {
      chunks_.push_back({model.fixed_work(chunk), std::max<int64_t>(0, chunk.first_layer - job.model.num_dense_layers),
                         chunk.num_moe_layers(job.model), recomputed_layers(job, chunk).moe});
    }
  }
}

double DrawnStepTimes::pipeline_seconds(const std::vector<std::vector<int>>& k) const {
  const int64_t v = passes_.shape.virtual_pipeline;
  const std::vector<Seconds> seconds = pass_table(passes_, [&](int64_t rank, const Pass& pass) {
    const Chunk& chunk = chunks_[static_cast<std::size_t>(rank * v + pass.chunk)];
    ChunkWork work = chunk.fixed;
    const std::vector<int>& drawn = k[static_cast<std::size_t>(pass.micro_batch)];
    for (int64_t layer = 0; layer < chunk.num_moe_layers; ++layer) {
      const int chosen = drawn[static_cast<std::size_t>(chunk.first_moe_layer + layer)];
      work.add(by_k_[static_cast<std::size_t>(chosen - k_min_)], 1, layer < chunk.num_recomputed ? 1 : 0);
    }
    return joined(work, time_).of(pass.kind);
  });
  return simulate_pipeline(passes_, seconds, transfers_).total.value;
}

double DrawnStepTimes::tail() const {
  return typical_.data_transfers + typical_.optimizer + typical_.stragglers + typical_.fixed;
}

double mean_k(const Job& job) {
  if (!k_varies(job)) return job.elastic.k_max;
  if (has_windows(job)) return window_mean_k(job);
  const ElasticLaw law(job.elastic, static_cast<int>(job.model.num_moe_layers()));
  return law.sum().mean() / static_cast<double>(job.model.num_moe_layers());
}

ClusterTimeLaw cluster_time_law(const Job& job, const Framework& framework, const LoadByK& load,
                                int64_t num_pipelines) {
  ClusterTimeLaw law;
  if (!k_varies(job)) {
    law.typical = cluster_step_time(job, framework, mean_k(job), load);
    law.step = ValueLaw({{law.typical.step(), 1.0}});
    return law;
  }
  const DrawnStepTimes times(job, framework, load);
  law.typical = times.typical();
  const StepDraws draws(job);
  std::vector<std::pair<double, double>> outcomes;
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < num_pipelines; ++i) {
    const double pipeline = times.pipeline_seconds(draws.draw(i));
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
  law.step = slowest.scaled(1, times.tail());
  return law;
}

}  // namespace mmoe
