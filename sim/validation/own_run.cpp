#include "sim/validation/own_run.h"

#include <algorithm>
#include <numeric>

#include "sim/config/json_text.h"
#include "sim/memory/step_memory.h"
#include "sim/plan/fit_probability.h"
#include "sim/throughput/throughput.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

struct Step {
  int64_t number = 0;
  double seconds = 0, peak_bytes = 0;
  std::vector<std::vector<int>> k;  // [micro-batch][MoE layer]
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
  if (static_cast<int64_t>(step.k.size()) != job.num_micro_batches() ||
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
  if (job.hardware.num_devices != 1) {
    throw ConfigError(job.where + ": hardware.num_devices = " + std::to_string(job.hardware.num_devices) +
                      "; only runs on one device are compared step by step");
  }
  if (job.elastic.sampling == Sampling::kTopP) {
    throw ConfigError(job.where + ": elastic.sampling = top_p draws no k, so no step's work is known from its k");
  }
  return job;
}

ValidationReport validate_own_run(const std::string& run_folder, const Job& job, const Calibration& calibration,
                                  int64_t first_step) {
  const std::vector<Step> steps = read_steps(run_folder + "/metrics.jsonl", job, first_step);
  std::vector<int64_t> sums;
  for (const Step& step : steps) sums.push_back(step.sum_k());
  std::sort(sums.begin(), sums.end());
  const int64_t low_third = sums[sums.size() / 3], high_third = sums[2 * sums.size() / 3];

  const StepTimeModel times(job, calibration);
  const Throughput throughput = predict_throughput(job, calibration);
  const double slower = throughput.step_interval.high / throughput.step.value;
  const double faster = throughput.step_interval.low / throughput.step.value;
  const double overhead = calibration.framework_overhead().value;
  ValidationReport report;
  report.num_runs = static_cast<int64_t>(steps.size());
  for (const Step& step : steps) {
    const int64_t sum = step.sum_k();
    const std::string id = "step_" + std::to_string(step.number);
    const std::string stratum = sum < low_third ? "few experts" : sum < high_third ? "middle" : "many experts";
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

}  // namespace mmoe
