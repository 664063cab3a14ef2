#pragma once
// The simulator's answer for a job on several devices.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sim/cluster/memory_model.h"
#include "sim/evidence/evidence.h"
#include "sim/plan/cluster_time_law.h"
#include "sim/plan/simulate.h"
#include "sim/plan/trainer_memory.h"
#include "sim/run/run_estimate.h"

namespace mmoe {

// One pipeline rank at the worst draw that the law allows, and the law of its peak over the draws.
struct RankReport {
  RankMemory worst;
  Summary peak_allocated;  // bytes of a step
};

struct ClusterPlan {
  Job job;
  Framework framework;
  Fit fit;
  int64_t limiting_rank = 0;
  bool host_is_full = false;  // its memory does not hold what is offloaded: nothing fits
  std::vector<RankReport> ranks;
  std::vector<TrainerRankPeak> trainer_peaks;  // by pipeline rank at k_max, for jobs of predicts_trainer_ranks
  Summary sum_k, peak_allocated;
  Interval peak_interval, reserved_interval, step_interval;
  ClusterTimeLaw time;
  double tokens_per_second_per_device = 0, model_flops_utilization = 0;
  FlopsPerSecond model_flops_per_device;
  Evidence evidence;
  std::optional<RunEstimate> run;  // where training.tokens is given
};

// fit.limiting.cause where the host's memory does not hold what is offloaded.
inline constexpr const char* kHostMemory = "host memory";

// Whether a job is for the cluster model: several devices, or a framework other than this project's trainer.
bool is_cluster_job(const Job& job);

// Throws ConfigError for what the model does not cover.
ClusterPlan simulate_cluster(const Job& job, const Framework& framework);

// Finds what makes a job fit that does not; of a job that our trainer runs only what it runs too.
void add_remedies(ClusterPlan& plan);

// The keys of design.md's `mmoe simulate`. `flags`: words at the end of each remedy's command, or empty.
nlohmann::json to_json(const ClusterPlan& plan, const std::string& flags = "");

}  // namespace mmoe
