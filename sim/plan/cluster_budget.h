#pragma once
// The activation budget of a cluster job: tuned over its pipeline stages, with what it does to the step time and what
// the freed memory buys.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <vector>

#include "sim/elastic/budget_plan.h"
#include "sim/elastic/in_flight_maximum.h"
#include "sim/framework/framework.h"
#include "sim/plan/cluster_time_law.h"
#include "sim/plan/freed_memory.h"

namespace mmoe {

// Speed of a job under one law of draws, by playing its schedule.
struct BudgetSpeed {
  ClusterTimeLaw time;
  double tokens_per_second_per_device = 0;
  double uneven_k_seconds = 0;  // pipeline bubble of a step that uneven draws add: mean less that of the mean k
};

struct ClusterBudget {
  Job job;  // with the tuned budget in place of its own, or with none
  BudgetRequest request;
  double draws_confidence = 0.99;
  Bytes memory_limit;          // reserved bytes, as asked for
  double reserved_factor = 1;  // reserved over allocated bytes; peaks below are allocated
  int64_t steps = 0;
  double replicas = 1;
  // Rows of the busiest expert-parallel rank over balanced ones that memory is provided for: the highest of every k,
  // and at each k of the job's range, mean over layers.
  double load_factor = 1;
  std::vector<double> load_by_k;
  BudgetTuning tuning;
  // P(the limit is passed over the horizon) with the choice by the law of the most in flight, for pipelines
  // (passing_probability); the tuner's own promise counts overlapping windows as independent and is never better.
  std::optional<TailProbability> sliding;
  double least_peak = 0;            // k_min in every layer
  double k_dependent_fraction = 0;  // of the unbudgeted peak
  double expected_flops_fraction = 1;
  double free_mean_k = 0, mean_k = 0;
  BudgetSpeed with, without;
  std::vector<FreedMemoryUse<BudgetSpeed>> uses;  // faster than the unbudgeted job, the fastest first
};

// Tunes as plan_budget does, on several devices. A bound on the sum of k does not bound the busiest expert-parallel
// rank: memory is that of a rank whose rows training.moe.load does not pass (expert_load_bound; of a random load with
// half of the risk), by k. Jobs of predicts_trainer_ranks without a pipeline are tuned on the law of our trainer's
// peak, with the error of its memory model on one device: exact where replicas that share experts share their draws,
// else over each replica's own draw (expert_group_memory). With a run's metrics.jsonl as the load every rank's rows are
// there the mean ones by layer and k (ExpertPairs). The cluster model counts rows by each replica's own draw
// too (rank_peaks). The limit is
// on reserved bytes and by default the device's usable memory less the framework's context. Uses of freed memory
// (larger micro-batches, less recomputation) get the memory that the unbudgeted job needs, or the limit. Granularity
// `layer` only. Throws ConfigError.
ClusterBudget plan_cluster_budget(const Job& job, const Framework& framework, const BudgetRequest& request,
                                  bool with_uses = true);

// The keys of design.md's `mmoe budget`; `budget` is null where no bound keeps the promise.
nlohmann::json to_json(const ClusterBudget& plan);

}  // namespace mmoe
