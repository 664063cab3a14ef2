#include "sim/plan/cluster_budget.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "sim/cluster/expert_load.h"
#include "sim/cluster/expert_pairs.h"
#include "sim/cluster/memory_model.h"
#include "sim/cluster/reserved_memory.h"
#include "sim/config/enum_names.h"
#include "sim/elastic/elastic_law.h"
#include "sim/elastic/pipeline_budget.h"
#include "sim/evidence/evidence.h"
#include "sim/formulas/model_flops.h"
#include "sim/plan/expert_group_memory.h"
#include "sim/plan/rank_memory_law.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kPipelines = 100;  // schedules played for a speed

void check(const Job& job, const BudgetRequest& request) {
  check_budget_request(job, request);
  if (job.elastic.granularity != Granularity::kLayer) {
    throw ConfigError(job.where + ": elastic.granularity = " + name_of(job.elastic.granularity) +
                      ": budgets of several devices are tuned for granularity layer; use it, or lower elastic.k_max");
  }
  if (job.elastic.k_min == job.elastic.k_max) {
    throw ConfigError(job.where + ": elastic.k_min = elastic.k_max = " + std::to_string(job.elastic.k_max) +
                      " leaves nothing to bound; raise k_max or lower k_min");
  }
}

// The job's stages with MoE layers, in allocated bytes, and what its other stages hold.
struct StageBytes {
  std::vector<PipelineStage> stages;
  std::vector<int64_t> ranks;  // of the stages
  // In their place, of our trainer's ranks without a pipeline: where all that share experts share their draws, or not.
  std::optional<StageMemory> alone;
  std::optional<GroupMemory> group;
  double least = 0;            // peak at k_min in every layer, of all ranks
  double reserved_factor = 1;  // of the rank that reserves most
};

bool is_exact(const Job& job) { return predicts_trainer_ranks(job) && job.parallelism.pipeline == 1; }

// Peak at k_min in every layer.
double least_peak(const Job& job, const StageMemory& stage) {
  ElasticConfig least = job.elastic;
  least.k_max = least.k_min;
  const ElasticLaw law(least, static_cast<int>(job.model.num_moe_layers()));
  double peak = stage.least;
  const auto count = [&](RunningMaximumTerms terms) {
    for (auto& bump : terms.bump) bump.resize(1);
    for (auto& surplus : terms.surplus) surplus.resize(1);
    peak = std::max(peak, stage.constant + largest_running_maximum(law, terms));
  };
  count(stage.terms);
  for (const RunningMaximumTerms& terms : stage.others) count(terms);
  return peak;
}

double least_peak(const GroupMemory& group) {
  double peak = group.least;
  for (const DrawnPeak& moment : group.peaks) {
    double bytes = moment.base;
    for (const DrawCosts& draws : moment.draws) {
      for (const std::vector<double>& costs : draws.costs) bytes += costs.front() * static_cast<double>(draws.count);
    }
    peak = std::max(peak, bytes);
  }
  return peak;
}

// `load`: of the busiest expert-parallel rank, of the cluster model; `pairs`: of every rank, of our trainer's.
StageBytes stage_bytes(const Job& job, const Framework& framework, const LoadByK& load, const ExpertPairs& pairs) {
  if (is_exact(job)) {
    StageBytes result;
    if (replicas_that_draw(job) > 1) {
      result.group = expert_group_memory(job, pairs);
      result.least = least_peak(*result.group);
    } else {
      result.alone = trainer_stage_memory(job, pairs);
      result.least = least_peak(job, *result.alone);
    }
    return result;
  }
  const RankPeaks peaks = rank_peaks(job, framework, load);
  const std::vector<RankMemory>&least = peaks.least, &most = peaks.most;
  const PipelineStages ranks = pipeline_stages(job, framework);
  StageBytes result;
  std::size_t limiting = 0;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    result.least = std::max(result.least, least[rank].peak_allocated.value);
    if (most[rank].peak_reserved > most[limiting].peak_reserved) limiting = rank;
    PipelineStage stage;
    stage.at_least = least[rank].peak_allocated.value;
    double in_flight = 0;
    for (const ElasticChunk& chunk : elastic_chunks(job, ranks[rank], static_cast<int64_t>(rank))) {
      const auto layers = static_cast<int64_t>(chunk.moe_layers.size());
      stage.chunks.push_back({layers, chunk.in_flight});
      in_flight += static_cast<double>(layers * chunk.in_flight);
    }
    if (in_flight == 0) continue;
    stage.added = peaks.added[rank];
    for (double& bytes : stage.added) bytes /= in_flight;
    stage.others = peaks.others;
    if (peaks.others > 0) stage.from_other = peaks.from_other[rank];
    for (double& bytes : stage.from_other) bytes /= in_flight;
    result.stages.push_back(std::move(stage));
    result.ranks.push_back(static_cast<int64_t>(rank));
  }
  result.reserved_factor = most[limiting].peak_reserved / most[limiting].peak_allocated;
  if (!predicts_trainer_ranks(job)) {
    result.reserved_factor *=
        replay_rank(job, framework, static_cast<int64_t>(limiting), job.elastic.k_max, load.at(job.elastic.k_max))
            .fragmentation();
  }
  return result;
}

Job without_budget(const Job& job) {
  Job free = job;
  free.elastic.budget.reset();
  free.elastic.budget_is_auto = false;
  return free;
}

// With the MoE layers of each group where they are no runs.
Job with_budget(const Job& job, Budget budget, const PipelineStages& ranks) {
  Job with = without_budget(job);
  if (job.parallelism.virtual_pipeline > 1) {
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      std::vector<int64_t> layers;
      for (const ElasticChunk& chunk : elastic_chunks(job, ranks[rank], static_cast<int64_t>(rank))) {
        layers.insert(layers.end(), chunk.moe_layers.begin(), chunk.moe_layers.end());
      }
      if (!layers.empty()) budget.layers.push_back(std::move(layers));
    }
  }
  with.elastic.budget = std::move(budget);
  return with;
}

BudgetSpeed speed_of(const Job& job, const Framework& framework) {
  BudgetSpeed speed;
  speed.time = cluster_time_law(job, framework, expert_load_factor(job), kPipelines);
  const double step = speed.time.step.mean();
  const double tokens = static_cast<double>(job.training.global_batch_size * job.training.seq_len);
  speed.tokens_per_second_per_device = tokens / step / static_cast<double>(job.hardware.num_devices);
  speed.uneven_k_seconds = std::max(0.0, step - speed.time.straggling_seconds - speed.time.typical.step());
  return speed;
}

BudgetTuning tune(const Job& job, const StageBytes& bytes, const PipelineGoal& goal) {
  if (bytes.group) {
    PipelineGoal of_groups = goal;
    of_groups.replicas /= static_cast<double>(replicas_that_draw(job));
    return tune_group_budget(job.elastic, *bytes.group, of_groups);
  }
  if (!bytes.alone) return tune_pipeline_budget(job.elastic, bytes.stages, goal);
  BudgetGoal one;
  one.memory_limit = goal.memory_limit;
  one.saving = goal.saving;
  one.confidence = goal.confidence;
  one.step_draws = goal.replicas * static_cast<double>(goal.num_micro_batches);
  one.horizon_draws = one.step_draws * goal.steps;
  return tune_budget(job.elastic, {*bytes.alone}, one);
}

PipelineGoal goal_of(const Job& job, double confidence, int64_t steps) {
  PipelineGoal goal;
  goal.confidence = confidence;
  goal.steps = static_cast<double>(steps);
  goal.replicas = job.elastic.share == DrawSharing::kReplicas ? 1 : static_cast<double>(job.data_parallel_size());
  goal.num_micro_batches = job.num_micro_batches();
  return goal;
}

// `limit`: allocated bytes of the unbudgeted job.
std::vector<FreedMemoryUse<BudgetSpeed>> uses_of(const ClusterBudget& plan, const Job& free, const Framework& framework,
                                                 const LoadByK& load, const ExpertPairs& pairs, double limit) {
  const auto tuning_of = [&](const Job& changed) {
    const StageBytes bytes = stage_bytes(changed, framework, load, pairs);
    PipelineGoal goal = goal_of(changed, plan.draws_confidence, plan.steps);
    goal.memory_limit = limit * plan.reserved_factor / bytes.reserved_factor;
    return tune(changed, bytes, goal);
  };
  const auto speed_with = [&](const Job& changed, const BudgetTuning& tuning) {
    if (!tuning.budget_needed) return speed_of(changed, framework);
    return speed_of(with_budget(changed, tuning.choice->budget, pipeline_stages(changed, framework)), framework);
  };
  return uses_of_freed_memory(free, plan.without, tuning_of, speed_with);
}

}  // namespace

ClusterBudget plan_cluster_budget(const Job& job, const Framework& framework, const BudgetRequest& request,
                                  bool with_uses) {
  check(job, request);
  framework.check_options(job.training.options, job.where);
  const Job free = without_budget(job);
  const PipelineStages ranks = pipeline_stages(free, framework);
  const bool is_ours = is_exact(free);
  ClusterBudget plan;
  plan.job = free;
  plan.request = request;
  plan.steps = budget_horizon(job, request);
  plan.memory_limit = request.memory_limit.value_or(allocatable_memory(job, framework));
  PipelineGoal goal = goal_of(free, request.confidence, plan.steps);
  double limit = 0;
  if (request.saving) {
    goal.saving = request.saving;
  } else {
    const double spread =
        is_ours ? default_calibration(job.hardware.spec).peak_bytes_spread
                : evidence_for(job).widening *
                      framework.spread_of(predicts_trainer_ranks(free) ? "peak_allocated_bytes" : "peak_reserved_bytes",
                                          free.model.num_moe_layers() > 0);
    const DrawsLimit draws = draws_limit(plan.memory_limit, request.confidence, spread);
    limit = draws.bytes;
    goal.confidence = draws.confidence;
  }
  if (expert_load_is_random(free)) goal.confidence = 1 - (1 - goal.confidence) / 2;
  // A run's routing is told of by layer and rank; the cluster model, and other loads, know one factor for all.
  const bool by_layer = is_ours && load_is_by_k(free);
  const LoadByK load = by_layer ? LoadByK() : expert_load_bound(free, goal.confidence);
  const ExpertPairs pairs = by_layer ? ExpertPairs(free) : ExpertPairs(free, load);
  for (int k = free.elastic.k_min; k <= free.elastic.k_max; ++k) plan.load_by_k.push_back(pairs.highest_factor(k));
  plan.load_factor = *std::max_element(plan.load_by_k.begin(), plan.load_by_k.end());
  const StageBytes bytes = stage_bytes(free, framework, load, pairs);
  plan.reserved_factor = bytes.reserved_factor;
  plan.least_peak = bytes.least;
  if (!request.saving) goal.memory_limit = limit / plan.reserved_factor;
  plan.draws_confidence = goal.confidence;
  plan.replicas = goal.replicas;
  plan.tuning = tune(free, bytes, goal);
  if (plan.tuning.choice && !bytes.stages.empty() && plan.tuning.choice->budget.kind != BudgetKind::kWindow) {
    const PipelinePasses passes = pipeline_passes(pipeline_shape(free));
    std::vector<std::span<const Pass>> orders;
    for (const int64_t rank : bytes.ranks) orders.push_back(passes.of_rank(rank));
    plan.sliding =
        passing_probability(free.elastic, bytes.stages, orders, goal, plan.tuning.choice->budget, plan.tuning.limit);
  }
  plan.k_dependent_fraction = 1 - bytes.least / plan.tuning.free_peak;
  plan.free_mean_k = mean_k(free);
  plan.mean_k = plan.free_mean_k;
  plan.without = speed_of(free, framework);
  plan.with = plan.without;
  if (plan.tuning.choice && plan.tuning.budget_needed) {
    plan.mean_k *= plan.tuning.choice->expected_sum_fraction;
    plan.job = with_budget(free, plan.tuning.choice->budget, ranks);
    plan.with = speed_of(plan.job, framework);
    const auto flops = [&](double k) {
      return model_step_flops(job.model, static_cast<double>(job.training.seq_len),
                              static_cast<double>(job.training.global_batch_size),
                              k * static_cast<double>(job.model.num_moe_layers()))
          .value;
    };
    plan.expected_flops_fraction = flops(plan.mean_k) / flops(plan.free_mean_k);
  }
  if (with_uses) {
    plan.uses =
        uses_of(plan, free, framework, load, pairs, goal.memory_limit ? *goal.memory_limit : plan.tuning.free_peak);
  }
  return plan;
}

}  // namespace mmoe
