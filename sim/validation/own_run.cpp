#include "sim/validation/own_run.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "sim/cluster/expert_load.h"
#include "sim/config/json_text.h"
#include "sim/memory/step_memory.h"
#include "sim/plan/cluster_time_law.h"
#include "sim/plan/fit_probability.h"
#include "sim/plan/trainer_memory.h"
#include "sim/plan/trainer_ranks.h"
#include "sim/throughput/throughput.h"
#include "sim/units/errors.h"
#include "sim/validation/rank_log_path.h"

namespace mmoe {
namespace {

struct Step {
  int64_t number = 0;
  double seconds = 0, peak_bytes = 0;
  std::vector<std::vector<int>> k;  // [global micro-batch][MoE layer]
  int64_t sum_k() const {
    int64_t sum = 0;
    for (const std::vector<int>& micro_batch : k) sum = std::accumulate(micro_batch.begin(), micro_batch.end(), sum);
    return sum;
  }
};

Step read_step(const nlohmann::json& json, const std::string& where, const Job& job) {
  Step step;
  try {
    json.at("step").get_to(step.number);
    json.at("seconds").get_to(step.seconds);
    json.at("peak_allocated_bytes").get_to(step.peak_bytes);
    json.at("k_per_layer").get_to(step.k);
  } catch (const nlohmann::json::exception& error) {
    throw ConfigError(where + ": is no step as mmoe train writes it (" + error.what() + ")");
  }
  const auto fits = [&](const std::vector<int>& micro_batch) {
    return static_cast<int64_t>(micro_batch.size()) == job.model.num_moe_layers() &&
           std::all_of(micro_batch.begin(), micro_batch.end(),
                       [&](int k) { return k >= 1 && k <= job.model.num_experts; });
  };
  if (static_cast<int64_t>(step.k.size()) != job.num_micro_batches() * job.data_parallel_size() ||
      !std::all_of(step.k.begin(), step.k.end(), fits)) {
    throw ConfigError(where + ": k_per_layer does not match job.json's micro-batches, MoE layers and experts");
  }
  return step;
}

std::vector<Step> read_steps(const std::string& path, const Job& job, int64_t first_step) {
  std::vector<Step> steps;
  int64_t number = 0;
  for (const nlohmann::json& line : read_json_lines(path, "name a run folder of mmoe train")) {
    Step step = read_step(line, path + ":" + std::to_string(++number), job);
    if (step.number >= first_step) steps.push_back(std::move(step));
  }
  if (steps.empty()) {
    throw ConfigError(path + ": holds no step from step " + std::to_string(first_step) +
                      " on, which warm-up ends before; train longer");
  }
  return steps;
}

}  // namespace

Job own_run_job(const std::string& run_folder) {
  Job job = load_job(run_folder + "/job.json");
  if (job.elastic.sampling == Sampling::kTopP) {
    throw ConfigError(job.where + ": elastic.sampling = top_p draws no k, so no step's work is known from its k");
  }
  if (job.hardware.num_devices != 1 && !predicts_trainer_ranks(job)) {
    throw ConfigError(job.where + ": hardware.num_devices = " + std::to_string(job.hardware.num_devices) + " of " +
                      job.hardware.spec.name +
                      "; only runs on one device or on 2 to 64 CPU ranks are compared step by step");
  }
  return job;
}

namespace {

// Thirds of the steps by their sum of k.
class Strata {
 public:
  explicit Strata(const std::vector<Step>& steps) {
    std::vector<int64_t> sums;
    for (const Step& step : steps) sums.push_back(step.sum_k());
    std::sort(sums.begin(), sums.end());
    low_ = sums[sums.size() / 3];
    high_ = sums[2 * sums.size() / 3];
  }
  std::string of(const Step& step) const {
    const int64_t sum = step.sum_k();
    return sum < low_ ? "few experts" : sum < high_ ? "middle" : "many experts";
  }

 private:
  int64_t low_, high_;
};

std::string step_id(const Step& step) { return "step_" + std::to_string(step.number); }

// One rank's line of a step.
struct RankStep {
  double peak_bytes = 0;
  std::vector<std::vector<RoutedPairs>> routed;  // [own micro-batch][MoE layer]; empty where no experts are split
};

RankStep read_rank_step(const nlohmann::json& json, const std::string& where, const Step& step, const Job& job) {
  RankStep result;
  std::vector<std::vector<std::array<double, 2>>> pairs;
  int64_t number = 0;
  try {
    json.at("step").get_to(number);
    json.at("peak_allocated_bytes").get_to(result.peak_bytes);
    if (job.parallelism.expert * job.parallelism.expert_tensor > 1) json.at("routed_pairs").get_to(pairs);
  } catch (const nlohmann::json::exception& error) {
    throw ConfigError(where + ": is no step as mmoe train --rank-logs writes it (" + error.what() + ")");
  }
  if (number != step.number) {
    throw ConfigError(where + ": is step " + std::to_string(number) + ", but metrics.jsonl has step " +
                      std::to_string(step.number) + " there; use --rank-logs from the run's first step on");
  }
  for (const auto& micro_batch : pairs) {
    auto& layers = result.routed.emplace_back();
    for (const auto& [received, gathered] : micro_batch) layers.push_back({received, gathered});
  }
  const bool fits = std::all_of(result.routed.begin(), result.routed.end(), [&](const auto& layers) {
    return static_cast<int64_t>(layers.size()) == job.model.num_moe_layers();
  });
  if (!fits || (!pairs.empty() && static_cast<int64_t>(pairs.size()) != job.num_micro_batches())) {
    throw ConfigError(where + ": routed_pairs does not match job.json's micro-batches and MoE layers");
  }
  return result;
}

}  // namespace

ValidationReport validate_own_run(const std::string& run_folder, const Job& job, const Calibration& calibration,
                                  int64_t first_step) {
  const std::vector<Step> steps = read_steps(run_folder + "/metrics.jsonl", job, first_step);
  const Strata strata(steps);
  const StepTimeModel times(job, calibration);
  const Throughput throughput = predict_throughput(job, calibration);
  const double slower = throughput.step_interval.high / throughput.step.value;
  const double faster = throughput.step_interval.low / throughput.step.value;
  const double overhead = calibration.framework_overhead().value;
  ValidationReport report;
  report.num_runs = static_cast<int64_t>(steps.size());
  for (const Step& step : steps) {
    const std::string id = step_id(step), stratum = strata.of(step);
    const double seconds = times.step_seconds(step.k).value;
    double peak = 0;
    for (const std::vector<int>& micro_batch : step.k)
      peak = std::max(peak, step_peak(job, micro_batch).total.value + overhead);
    report.rows.push_back({id, "step_seconds", step.seconds, seconds, seconds * faster, seconds * slower, stratum});
    const Interval peaks = error_interval(peak, calibration.peak_bytes_spread);
    report.rows.push_back({id, "peak_allocated_bytes", step.peak_bytes, peak, peaks.low, peaks.high, stratum});
  }
  return report;
}

ValidationReport validate_own_ranks(const std::string& run_folder, const Job& job, const Framework& framework,
                                    int64_t first_step) {
  const std::vector<Step> steps = read_steps(run_folder + "/metrics.jsonl", job, first_step);
  const Strata strata(steps);
  const auto replica_batches = static_cast<std::ptrdiff_t>(job.num_micro_batches());
  const DrawnStepTimes times(job, framework, expert_load_factor(job));
  ValidationReport report;
  report.num_runs = static_cast<int64_t>(steps.size());
  const bool is_moe = job.model.num_moe_layers() > 0;
  for (const Step& step : steps) {
    double slowest = 0;
    for (auto replica = step.k.begin(); replica != step.k.end(); replica += replica_batches) {
      slowest = std::max(slowest, times.pipeline_seconds({replica, replica + replica_batches}));
    }
    const double seconds = slowest + times.tail();
    const Interval interval = error_interval(seconds, framework.spread_of("step_seconds", is_moe));
    report.rows.push_back(
        {step_id(step), "step_seconds", step.seconds, seconds, interval.low, interval.high, strata.of(step)});
  }
  const ExpertPairs own(job, 1.0);  // of ranks that hold all experts
  for (int64_t rank = 0; rank < job.hardware.num_devices; ++rank) {
    const std::string path = rank_log_path(run_folder, rank);
    const std::vector<nlohmann::json> lines = read_json_lines(path, "train with --rank-logs");
    for (const Step& step : steps) {
      const auto line = static_cast<std::size_t>(step.number - 1);
      const std::string where = path + ":" + std::to_string(step.number);
      if (line >= lines.size()) throw ConfigError(where + ": is missing; train with --rank-logs to the end");
      const RankStep measured = read_rank_step(lines[line], where, step, job);
      const RoutedPairsOf routed = [&](int64_t micro_batch, int64_t layer) {
        return measured.routed[static_cast<std::size_t>(micro_batch)][static_cast<std::size_t>(layer)];
      };
      const double peak = (measured.routed.empty() ? trainer_rank_peak(job, rank, step.k, own)
                                                   : trainer_rank_peak(job, rank, step.k, routed))
                              .total.value;
      const Interval interval = error_interval(peak, framework.spread_of("peak_allocated_bytes", is_moe));
      report.rows.push_back({step_id(step) + "_rank_" + std::to_string(rank), "peak_allocated_bytes",
                             measured.peak_bytes, peak, interval.low, interval.high, strata.of(step)});
    }
  }
  return report;
}

}  // namespace mmoe
