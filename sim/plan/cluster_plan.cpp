#include "sim/plan/cluster_plan.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "sim/cluster/expert_load.h"
#include "sim/cluster/reserved_memory.h"
#include "sim/config/enum_names.h"
#include "sim/elastic/budget_plan.h"
#include "sim/elastic/draw_sum.h"
#include "sim/elastic/elastic_law.h"
#include "sim/formulas/model_flops.h"
#include "sim/formulas/parameter_counts.h"
#include "sim/plan/fit_probability.h"
#include "sim/plan/rank_memory_law.h"
#include "sim/plan/trainable.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kMostPipelineRanks = 512;  // of sim/schedule's closed forms
constexpr double kConfidence = 0.99;
constexpr double kRounding = 1e-12;  // of sums of bytes, in parts of them
// Storage that a device's share of a checkpoint is written to, and what a restart takes: assumptions, stated with the
// results. Source: Llama 3 report (arXiv:2407.21783), section 3.3.1: 2 TB/s for 16,384 GPUs.
constexpr double kCheckpointBytesPerSecond = 2e12 / 16384;
constexpr double kRestartSeconds = 600;

std::optional<ElasticLaw> law_of(const Job& job) {
  if (job.model.num_moe_layers() == 0 || job.elastic.sampling == Sampling::kTopP) return std::nullopt;
  return ElasticLaw(job.elastic, static_cast<int>(job.model.num_moe_layers()));
}

// One rank's peak over the draws.
struct RankLaw {
  ValueLaw one_window = ValueLaw({{0, 1}});
  double windows_per_step = 1;
  double largest_k = 0;        // in all layers: as much in flight as the law allows
  double reserved_factor = 1;  // reserved over allocated
};

// The k between two at which `added` comes to so many bytes.
double k_at(const std::vector<double>& added, int k_min, double bytes) {
  const auto above = static_cast<std::size_t>(std::lower_bound(added.begin(), added.end(), bytes) - added.begin());
  if (above == 0) return k_min;
  if (above == added.size()) return k_min + static_cast<double>(added.size() - 1);
  const double below = added[above - 1];
  return k_min + static_cast<double>(above - 1) + (bytes - below) / (added[above] - below);
}

// Every layer in flight adds its share of what rank_peaks says, by its own k.
std::vector<RankLaw> rank_laws(const Job& job, const Framework& framework, const PipelineStages& stages,
                               const std::optional<ElasticLaw>& law, const LoadByK& load) {
  const RankPeaks peaks = rank_peaks(job, framework, load);
  std::vector<RankLaw> laws;
  std::size_t group = 0;  // of the budget: ranks with MoE layers
  for (std::size_t rank = 0; rank < stages.size(); ++rank) {
    RankLaw one;
    one.reserved_factor = peaks.most[rank].peak_reserved / peaks.most[rank].peak_allocated;
    one.largest_k = job.elastic.k_max;
    const double at_least = peaks.least[rank].peak_allocated.value;
    const double most = std::max(peaks.most[rank].peak_allocated.value, at_least + peaks.added[rank].back());
    one.one_window = ValueLaw({{most, 1}});
    if (law && job.elastic.k_max > job.elastic.k_min) {
      const std::vector<ElasticChunk> chunks = elastic_chunks(job, stages[rank], static_cast<int64_t>(rank));
      int64_t layers = 0;
      for (const ElasticChunk& chunk : chunks) {
        layers += static_cast<int64_t>(chunk.moe_layers.size()) * chunk.in_flight;
      }
      one.one_window = ValueLaw({{at_least, 1}});
      if (layers > 0) {
        std::vector<double> share = peaks.added[rank];
        for (double& bytes : share) bytes /= static_cast<double>(layers);
        std::vector<std::pair<double, double>> outcomes;
        if (has_windows(job)) {
          // The same k on average in every layer, or as near as whole ones come: the most where `added` is concave.
          const InFlightLaw windows = window_in_flight(job, chunks.front(), group);
          one.windows_per_step = windows.windows_per_step;
          for (int64_t sum = windows.sum.min(); sum <= windows.sum.max(); ++sum) {
            const int64_t extra = sum - layers * job.elastic.k_min;
            outcomes.emplace_back(at_least + most_added(share, layers, extra), windows.sum.probability(sum));
          }
        } else {
          std::vector<double> from_other = peaks.from_other[rank], own = share;
          for (std::size_t j = 0; j < own.size(); ++j) {
            from_other[j] /= static_cast<double>(layers);
            own[j] -= static_cast<double>(peaks.others) * from_other[j];
          }
          const CostCells costs = in_cells({{{own}, layers}}, kMostCells);
          const InFlightLaw in_flight =
              in_flight_law(*law, chunks, job.num_micro_batches(), costs.cells.front().front());
          one.windows_per_step = in_flight.windows_per_step;
          GridLaw sum{costs.origin, costs.unit, in_flight.sum};
          sum.largest = sum.origin + sum.spacing * static_cast<double>(sum.cells.max());
          if (peaks.others > 0) {
            sum = sum_of_independent({sum, in_flight_of_others(*law, chunks, peaks.others, from_other)});
          }
          // Rounding of a sum of bytes: what is as good as k_max everywhere is that.
          const double largest = at_least + sum.largest >= most * (1 - kRounding) ? most : at_least + sum.largest;
          for (int64_t cell = sum.cells.min(); cell <= sum.cells.max(); ++cell) {
            const double bytes = at_least + sum.origin + sum.spacing * static_cast<double>(cell);
            outcomes.emplace_back(bytes >= largest * (1 - kRounding) ? largest : bytes, sum.cells.probability(cell));
          }
          outcomes.emplace_back(largest, 0);
        }
        ++group;
        one.one_window = ValueLaw(std::move(outcomes));
        if (one.one_window.max() < most) {
          one.largest_k = k_at(peaks.added[rank], job.elastic.k_min, one.one_window.max() - at_least);
        }
      }
    }
    laws.push_back(std::move(one));
  }
  return laws;
}

}  // namespace

bool is_cluster_job(const Job& job) {
  return job.hardware.num_devices > 1 || job.training.framework != TrainingConfig().framework;
}

ClusterPlan simulate_cluster(const Job& job, const Framework& framework) {
  if (!pipeline_shape(job).is_valid()) {
    throw ConfigError(job.where + ": parallelism.schedule = " + name_of(job.parallelism.schedule) +
                      " cannot run parallelism.virtual_pipeline = " + std::to_string(job.parallelism.virtual_pipeline) +
                      " chunks of " + std::to_string(job.num_micro_batches()) +
                      " micro-batches; use 1F1B, or interleaved with as many micro-batches as pipeline ranks or more");
  }
  framework.check_options(job.training.options, job.where);
  if (job.parallelism.pipeline > kMostPipelineRanks) {
    throw ConfigError(job.where + ": parallelism.pipeline = " + std::to_string(job.parallelism.pipeline) +
                      " is above " + std::to_string(kMostPipelineRanks) +
                      ", which no schedule is worked out for; use fewer ranks");
  }
  ClusterPlan plan;
  plan.job = job;
  plan.framework = framework;
  plan.evidence = evidence_for(job);
  const bool lean = job.training.framework == TrainingConfig().framework && job.model.num_moe_layers() > 0 &&
                    job.training.expert_saving == ExpertSaving::kLean;
  if (lean && !predicts_trainer_ranks(job)) {
    plan.evidence.outside.emplace_back("training.expert_saving = lean is predicted as if the experts kept all");
  }
  const double widening = plan.evidence.widening;
  const LoadByK load = expert_load_factor(job);
  const std::optional<ElasticLaw> law = law_of(job);
  const PipelineStages stages = pipeline_stages(job, framework);

  // Memory.
  if (predicts_trainer_ranks(job)) plan.trainer_peaks = trainer_stage_peaks(job, job.elastic.k_max);
  const bool is_ours = !plan.trainer_peaks.empty();
  std::vector<RankLaw> laws = rank_laws(job, framework, stages, law, load);
  double highest = -1;
  for (std::size_t rank = 0; rank < laws.size(); ++rank) {
    const double k = laws[rank].largest_k;
    const RankMemory worst = is_ours ? rank_memory(plan.trainer_peaks[rank], laws[rank].one_window.max())
                                     : cluster_memory(job, framework, k, load.at(k))[rank];
    const ValueLaw step = laws[rank].one_window.maximum(laws[rank].windows_per_step);
    plan.ranks.push_back({worst, step.summary()});
    if (worst.peak_reserved.value <= highest) continue;
    highest = worst.peak_reserved.value;
    plan.limiting_rank = static_cast<int64_t>(rank);
  }
  // The holes between kept tensors, of the rank that decides.
  RankMemory& decides = plan.ranks[static_cast<std::size_t>(plan.limiting_rank)].worst;
  const auto limiting_rank = static_cast<std::size_t>(plan.limiting_rank);
  const double worst_k = laws[limiting_rank].largest_k;
  const double fragmentation =
      is_ours ? 1 : replay_rank(job, framework, plan.limiting_rank, worst_k, load.at(worst_k)).fragmentation();
  decides.peak_reserved = decides.peak_reserved * fragmentation;
  laws[limiting_rank].reserved_factor *= fragmentation;
  const RankReport& limiting = plan.ranks[static_cast<std::size_t>(plan.limiting_rank)];
  plan.peak_allocated = limiting.peak_allocated;
  plan.sum_k =
      law ? law->sum().summary() : DiscreteLaw::certain(job.elastic.k_max * job.model.num_moe_layers()).summary();
  const auto spread_of = [&](const char* quantity) {
    return widening * framework.spread_of(quantity, job.model.num_moe_layers() > 0);
  };
  const double spread = spread_of(is_ours ? "peak_allocated_bytes" : "peak_reserved_bytes");
  plan.peak_interval = error_interval(limiting.worst.peak_allocated.value, spread_of("peak_allocated_bytes"));
  plan.reserved_interval = error_interval(limiting.worst.peak_reserved.value, spread);

  // Time.
  plan.time = cluster_time_law(job, framework, load);
  const double step = plan.time.step.mean();
  plan.step_interval = error_interval(step, spread_of("step_seconds"));
  const auto devices = static_cast<double>(job.hardware.num_devices);
  const double tokens = static_cast<double>(job.training.global_batch_size) * static_cast<double>(job.training.seq_len);
  plan.tokens_per_second_per_device = tokens / step / devices;
  const double sum_k = law ? law->sum().mean() : static_cast<double>(job.elastic.k_max * job.model.num_moe_layers());
  const Flops flops = model_step_flops(job.model, static_cast<double>(job.training.seq_len),
                                       static_cast<double>(job.training.global_batch_size), sum_k);
  plan.model_flops_per_device = FlopsPerSecond{flops.value / step / devices};
  plan.model_flops_utilization =
      plan.model_flops_per_device.value / peak_of(job.hardware.spec, job.training.precision).value;
  if (job.training.tokens > 0) {
    // A checkpoint holds the compute weights, master weights and two moments.
    const double checkpoint = parameter_counts(job.model).total() * 14 / devices;
    plan.run = estimate_run({job.training.tokens, tokens, Seconds{step}, job.hardware.num_devices,
                             Seconds{checkpoint / kCheckpointBytesPerSecond}, Seconds{kRestartSeconds}},
                            job.hardware.cluster_spec);
  }

  // Verdict. Ranks, windows and replicas count as independent: sums of independent draws are associated, so that the
  // true probability of fitting is no smaller (Esary, Proschan, Walkup 1967).
  Fit& fit = plan.fit;
  fit.confidence = kConfidence;
  fit.horizon_steps = budget_horizon(job, {});
  fit.limit = allocatable_memory(job, framework);
  const double replicas =
      job.elastic.share == DrawSharing::kReplicas ? 1 : static_cast<double>(job.data_parallel_size());
  std::vector<ValueLaw> windows;
  for (const RankLaw& one : laws) windows.push_back(one.one_window.scaled(one.reserved_factor, 0));
  const auto holds = [&](double limit) {
    double probability = 1;
    for (std::size_t rank = 0; rank < laws.size(); ++rank) {
      const double count = laws[rank].windows_per_step * replicas * static_cast<double>(fit.horizon_steps);
      probability *= windows[rank].cdf_of_maximum(limit, count);
    }
    return probability;
  };
  plan.host_is_full = !std::all_of(plan.ranks.begin(), plan.ranks.end(),
                                   [&](const RankReport& rank) { return host_holds(job, rank.worst.host); });
  fit.probability = plan.host_is_full ? 0 : fit_probability(holds, fit.limit.value, spread);
  fit.verdict = fit.probability >= kConfidence       ? FitVerdict::kFits
                : fit.probability >= 1 - kConfidence ? FitVerdict::kAtRisk
                                                     : FitVerdict::kDoesNotFit;
  return plan;
}

void add_remedies(ClusterPlan& plan) {
  if (plan.fit.verdict == FitVerdict::kFits) return;
  const bool is_trained = trainer_runs(plan.job);
  plan.fit.remedies = find_remedies(plan.job, plan.tokens_per_second_per_device, kConfidence, [&](const Job& job) {
    if (is_trained && !trainer_runs(job)) return Outcome{};
    const ClusterPlan other = simulate_cluster(job, plan.framework);
    return Outcome{other.fit.probability, other.tokens_per_second_per_device};
  });
}

}  // namespace mmoe
