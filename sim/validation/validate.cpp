#include "sim/validation/validate.h"

#include <algorithm>
#include <cmath>

#include "sim/cluster/memory_model.h"
#include "sim/cluster/step_time.h"
#include "sim/config/enum_names.h"
#include "sim/formulas/model_flops.h"
#include "sim/plan/fit_probability.h"
#include "sim/units/errors.h"
#include "sim/validation/error_spread.h"

namespace mmoe {
namespace {

std::vector<std::pair<std::string, std::string>> job_columns(const Job& job) {
  const auto text = [](int64_t value) { return std::to_string(value); };
  return {{"framework", job.training.framework},           {"device", job.hardware.device},
          {"num_devices", text(job.hardware.num_devices)}, {"hidden_size", text(job.model.hidden_size)},
          {"num_layers", text(job.model.num_layers)},      {"num_experts", text(job.model.num_experts)},
          {"seq_len", text(job.training.seq_len)},         {"precision", name_of(job.training.precision)},
          {"tensor", text(job.parallelism.tensor)},        {"pipeline", text(job.parallelism.pipeline)},
          {"expert", text(job.parallelism.expert)},        {"context", text(job.parallelism.context)}};
}

void add_row(ValidationReport& report, const MeasuredRun& run, const Framework& framework, const char* quantity,
             const std::optional<double>& measured, double predicted) {
  if (!measured || *measured <= 0) return;
  const std::string name = quantity;
  const double spread = framework.spread_of(name == "mfu" ? "step_seconds" : name, run.job.model.num_moe_layers() > 0);
  const Interval interval = error_interval(predicted, spread);
  report.rows.push_back({run.id, quantity, *measured, predicted, interval.low, interval.high, run.stratum,
                         model_group(run.job.model), job_columns(run.job)});
}

}  // namespace

Flops reported_flops(const Job& job, FlopsConvention convention) {
  const auto seq_len = static_cast<double>(job.training.seq_len);
  const auto batch = static_cast<double>(job.training.global_batch_size);
  const double sum_k = static_cast<double>(job.elastic.k_max * job.model.num_moe_layers());
  Flops flops = model_step_flops(job.model, seq_len, batch, sum_k);
  if (convention == FlopsConvention::kCausalAttention) return flops;
  // The masked half of the attention matrix.
  const Flops causal = attention_flops(job.model, seq_len, batch);
  const double masked = seq_len * seq_len / causal_pairs(seq_len) - 1;
  flops += 3 * static_cast<double>(job.model.num_layers) * (causal * masked);
  if (convention != FlopsConvention::kWithRecomputation || !job.training.recompute.full) return flops;
  // Every layer runs forward once more, the head does not.
  return flops + (1.0 / 3) * flops + (-1) * head_flops(job.model, seq_len * batch);
}

RunPrediction predict_run(const MeasuredRun& run, const Framework& framework) {
  const Job& job = run.job;
  const double k = job.elastic.k_max;
  RunPrediction result;
  result.step_seconds = cluster_step_time(job, framework, k).step();
  result.mfu = reported_flops(job, run.convention).value / result.step_seconds /
               (static_cast<double>(job.hardware.num_devices) * job.hardware.spec.peak_bf16.value);
  const std::vector<RankMemory> ranks = cluster_memory(job, framework, k);
  double most = 0;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    most = std::max(most, ranks[rank].peak_reserved.value);
    if (run.last_rank_only && rank + 1 < ranks.size()) continue;
    result.static_bytes = std::max(result.static_bytes, ranks[rank].static_bytes.value);
    result.peak_allocated_bytes = std::max(result.peak_allocated_bytes, ranks[rank].peak_allocated.value);
    result.peak_reserved_bytes = std::max(result.peak_reserved_bytes, ranks[rank].peak_reserved.value);
  }
  result.largest_reserved_bytes = most;
  const double limit = job.hardware.spec.memory.value - framework.memory.context_bytes;
  result.fit_probability = fit_probability([&](double bytes) { return most <= bytes ? 1.0 : 0.0; }, limit,
                                           framework.spread_of("peak_reserved_bytes", job.model.num_moe_layers() > 0));
  return result;
}

ValidationReport validate_table(const CsvTable& table, const std::string& framework_file, Speed speed) {
  ValidationReport report;
  for (const CsvRow& row : table.rows()) {
    ++report.num_runs;
    const RunOrReason converted = measured_run(row);
    if (!converted.run) {
      report.unmodelled.push_back({row.text("id"), converted.reason});
      continue;
    }
    const MeasuredRun& run = *converted.run;
    try {
      Framework framework = load_framework(framework_file.empty() ? run.job.training.framework : framework_file,
                                           run.job.hardware.spec, "row " + run.id);
      if (speed == Speed::kRaw) {
        framework.time = TimeParameters();
        framework.network = NetworkParameters();
      }
      const RunPrediction predicted = predict_run(run, framework);
      add_row(report, run, framework, "step_seconds", run.step_seconds, predicted.step_seconds);
      add_row(report, run, framework, "mfu", run.mfu, predicted.mfu);
      add_row(report, run, framework, "peak_allocated_bytes", run.peak_allocated_bytes, predicted.peak_allocated_bytes);
      add_row(report, run, framework, "peak_reserved_bytes", run.peak_reserved_bytes, predicted.peak_reserved_bytes);
      add_row(report, run, framework, "static_bytes", run.static_bytes, predicted.static_bytes);
      if (run.fits) {
        report.rows.push_back({run.id, kFitsQuantity, *run.fits ? 1.0 : 0.0, predicted.fit_probability, 0, 1,
                               run.stratum, model_group(run.job.model), job_columns(run.job),
                               predicted.largest_reserved_bytes});
      }
    } catch (const ConfigError& error) {
      report.unmodelled.push_back({run.id, error.what()});
    }
  }
  return report;
}

}  // namespace mmoe
