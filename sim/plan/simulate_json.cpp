#include <algorithm>
#include <array>
#include <utility>

#include "sim/plan/simulate.h"

namespace mmoe {
namespace {

nlohmann::json fit_json(const Plan& plan, const std::string& flags) {
  const Fit& fit = plan.fit;
  const StepPeak& peak = plan.memory.peak;
  // The largest single cause.
  const PersistentMemory& persistent = plan.memory.persistent;
  const std::array<std::pair<Bytes, const char*>, 5> causes = {{{peak.activations, "activations"},
                                                                {peak.logits, "logits"},
                                                                {persistent.optimizer, "optimizer"},
                                                                {persistent.weights, "weights"},
                                                                {persistent.gradients, "gradients"}}};
  const char* const cause = std::max_element(causes.begin(), causes.end())->second;
  return {{"verdict", to_string(fit.verdict)},
          {"probability", fit.probability},
          {"confidence", fit.confidence},
          {"horizon_steps", fit.horizon_steps},
          {"limit_bytes", fit.limit.value},
          {"limiting", {{"rank", 0}, {"stage", 0}, {"cause", cause}, {"moment", peak.moment}}},
          {"remedies", to_json("mmoe simulate", plan.job, fit.remedies, flags)}};
}

nlohmann::json memory_json(const Plan& plan) {
  const MemoryReport& memory = plan.memory;
  const Bytes buffers = memory.persistent.buffers + memory.peak.logits + memory.peak.workspace + memory.framework;
  nlohmann::json stage = {{"weights_bytes", memory.persistent.weights.value},
                          {"gradients_bytes", memory.persistent.gradients.value},
                          {"optimizer_bytes", memory.persistent.optimizer.value},
                          {"activations_bytes", memory.peak.activations.value},
                          {"buffers_bytes", buffers.value},
                          {"buffers",
                           {{"logits_bytes", memory.peak.logits.value},
                            {"workspace_bytes", memory.peak.workspace.value},
                            {"tables_and_tokens_bytes", memory.persistent.buffers.value},
                            {"framework_bytes", memory.framework.value}}},
                          {"peak_allocated_bytes", memory.total().value},
                          {"moment", memory.peak.moment}};
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerActivations& layer : memory.layers) {
    layers.push_back(
        {{"layer", layer.layer}, {"fixed_bytes", layer.fixed.value}, {"bytes_per_active_expert", layer.per_k.value}});
  }
  return {{"peak_allocated_bytes", memory.total().value},
          {"peak_reserved_bytes", memory.total().value},
          {"stages", {stage}},
          {"activations_by_layer", layers}};
}

nlohmann::json throughput_json(const Throughput& throughput) {
  nlohmann::json breakdown;
  for (const auto& [operation, seconds] : throughput.breakdown) breakdown[operation] = seconds.value;
  return {{"step_seconds", throughput.step.value},
          {"tokens_per_second_per_device", throughput.tokens_per_second_per_device},
          {"model_flops_utilization", throughput.model_flops_utilization},
          {"model_tflops_per_device", throughput.model_flops_per_device.value / 1e12},
          {"breakdown_seconds", breakdown}};
}

}  // namespace

nlohmann::json to_json(const Plan& plan, const std::string& flags) {
  const double hours = static_cast<double>(plan.run_steps) * plan.throughput.step.value / 3600;
  nlohmann::json run = {{"steps", plan.run_steps}, {"days", nullptr}, {"device_hours", nullptr}, {"cost", nullptr}};
  if (plan.run_steps > 0) {
    run["days"] = hours / 24;
    run["device_hours"] = hours * static_cast<double>(plan.job.hardware.num_devices);
    if (const double price = plan.job.hardware.cluster_spec.price_per_device_hour; price > 0) {
      run["cost"] = run["device_hours"].get<double>() * price;
    }
  }
  const auto interval = [](const Interval& bounds) { return nlohmann::json::array({bounds.low, bounds.high}); };
  return {{"fits", plan.fit.verdict == FitVerdict::kFits},
          {"fit", fit_json(plan, flags)},
          {"evidence", {{"calibration", plan.calibration_source}, {"nearest", nlohmann::json::array()}}},
          {"memory", memory_json(plan)},
          {"throughput", throughput_json(plan.throughput)},
          {"elastic",
           {{"sum_k", plan.sum_k},
            {"peak_allocated_bytes", plan.peak_allocated},
            {"step_seconds", plan.throughput.step_law}}},
          {"run", run},
          {"intervals",
           {{"peak_allocated_bytes", interval(plan.peak_interval)},
            {"step_seconds", interval(plan.throughput.step_interval)}}}};
}

}  // namespace mmoe
