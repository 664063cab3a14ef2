#include <algorithm>
#include <array>
#include <utility>

#include "sim/plan/cluster_plan.h"

namespace mmoe {
namespace {

const char* largest_cause(const RankMemory& memory) {
  const std::array<std::pair<Bytes, const char*>, 7> causes = {
      {{memory.activations, "activations"},
       {memory.logits, "logits"},
       {memory.transient, "layer at work"},
       {memory.held.optimizer, "optimizer"},
       {memory.held.weights, "weights"},
       {memory.held.gradients, "gradients"},
       {memory.held.workspaces + memory.held.buffers, "buffers"}}};
  return std::max_element(causes.begin(), causes.end())->second;
}

// When a pipeline rank is at its peak.
std::string moment_of(const ClusterPlan& plan, std::size_t rank) {
  return plan.trainer_peaks.empty() ? plan.ranks[rank].worst.moment : plan.trainer_peaks[rank].moment;
}

nlohmann::json fit_json(const ClusterPlan& plan, const std::string& flags) {
  const Fit& fit = plan.fit;
  const RankMemory& worst = plan.ranks[static_cast<std::size_t>(plan.limiting_rank)].worst;
  // The first device of the pipeline rank.
  const int64_t devices_per_stage = plan.job.hardware.num_devices / plan.job.parallelism.pipeline;
  return {{"verdict", to_string(fit.verdict)},
          {"probability", fit.probability},
          {"confidence", fit.confidence},
          {"horizon_steps", fit.horizon_steps},
          {"limit_bytes", fit.limit.value},
          {"host_limit_bytes", plan.job.hardware.cluster_spec.host_memory.value},
          {"limiting",
           {{"rank", plan.limiting_rank * devices_per_stage},
            {"stage", plan.limiting_rank},
            {"cause", plan.host_is_full ? kHostMemory : largest_cause(worst)},
            {"moment", moment_of(plan, static_cast<std::size_t>(plan.limiting_rank))}}},
          {"remedies", to_json("mmoe simulate", plan.job, fit.remedies, flags)}};
}

// Our trainer's ranks are predicted without parting activations, logits and the layer at work: all are activations.
nlohmann::json buffers_json(const ClusterPlan& plan, const RankMemory& memory) {
  if (!plan.trainer_peaks.empty()) return {{"tables_and_tokens_bytes", memory.held.buffers.value}};
  return {{"logits_bytes", memory.logits.value},
          {"layer_at_work_bytes", memory.transient.value},
          {"workspace_bytes", memory.held.workspaces.value},
          {"framework_bytes", memory.held.buffers.value}};
}

nlohmann::json memory_json(const ClusterPlan& plan) {
  nlohmann::json stages = nlohmann::json::array();
  double allocated = 0, reserved = 0;
  for (std::size_t i = 0; i < plan.ranks.size(); ++i) {
    const RankReport& rank = plan.ranks[i];
    const RankMemory& memory = rank.worst;
    const Bytes buffers = memory.held.workspaces + memory.held.buffers + memory.logits + memory.transient;
    stages.push_back({{"weights_bytes", memory.held.weights.value},
                      {"gradients_bytes", memory.held.gradients.value},
                      {"optimizer_bytes", memory.held.optimizer.value},
                      {"activations_bytes", memory.activations.value},
                      {"buffers_bytes", buffers.value},
                      {"buffers", buffers_json(plan, memory)},
                      {"static_bytes", memory.static_bytes.value},
                      {"host_bytes", memory.host.value},
                      {"peak_allocated_bytes", memory.peak_allocated.value},
                      {"peak_reserved_bytes", memory.peak_reserved.value},
                      {"peak_allocated_law", rank.peak_allocated},
                      {"moment", moment_of(plan, i)}});
    allocated = std::max(allocated, memory.peak_allocated.value);
    reserved = std::max(reserved, memory.peak_reserved.value);
  }
  return {{"peak_allocated_bytes", allocated}, {"peak_reserved_bytes", reserved}, {"stages", stages}};
}

nlohmann::json throughput_json(const ClusterPlan& plan) {
  nlohmann::json breakdown = nlohmann::json::object();
  const ClusterStepTime& parts = plan.time.typical;
  for (std::size_t i = 0; i < parts.micro_batches.size(); ++i) {
    if (parts.micro_batches[i] > 0) breakdown[name_of_cause(static_cast<TimeCause>(i))] = parts.micro_batches[i];
  }
  breakdown["pipeline_bubble"] = parts.bubble;
  breakdown["data_parallel_transfers"] = parts.data_transfers;
  breakdown["optimizer"] = parts.optimizer;
  breakdown["stragglers"] = parts.stragglers;
  breakdown["fixed"] = parts.fixed;
  const double step = plan.time.step.mean();
  breakdown["uneven_draws"] = step - parts.step();  // stages and replicas that wait for those which drew more experts
  return {{"step_seconds", step},
          {"tokens_per_second_per_device", plan.tokens_per_second_per_device},
          {"model_flops_utilization", plan.model_flops_utilization},
          {"model_tflops_per_device", plan.model_flops_per_device.value / 1e12},
          {"breakdown_seconds", breakdown},
          {"standard_error_seconds", plan.time.standard_error}};
}

nlohmann::json run_json(const ClusterPlan& plan) {
  nlohmann::json run = {{"steps", 0}, {"days", nullptr}, {"device_hours", nullptr}, {"cost", nullptr}};
  if (!plan.run) return run;
  run["steps"] = plan.run->num_steps;
  run["days"] = plan.run->days();
  run["device_hours"] = plan.run->device_hours;
  if (plan.run->cost) run["cost"] = *plan.run->cost;
  if (plan.run->energy_kwh) run["energy_kwh"] = *plan.run->energy_kwh;
  if (const auto& failures = plan.run->failures) {
    run["failures"] = {{"expected", failures->num_failures},
                       {"hours_between", failures->between_failures.value / 3600},
                       {"checkpoint_interval_seconds", failures->checkpoint_interval.value},
                       {"goodput_fraction", failures->goodput_fraction}};
  }
  return run;
}

}  // namespace

nlohmann::json to_json(const ClusterPlan& plan, const std::string& flags) {
  const auto interval = [](const Interval& bounds) { return nlohmann::json::array({bounds.low, bounds.high}); };
  const auto fitted = plan.framework.fitted_to.find("time");
  const std::string source = fitted == plan.framework.fitted_to.end() || fitted->second.empty()
                                 ? "not fitted to measurements: typical values"
                                 : "from " + fitted->second;
  const auto links = plan.framework.fitted_to.find("network");
  nlohmann::json nearest = nlohmann::json::array();
  for (const MeasuredNeighbour& run : plan.evidence.nearest) {
    nearest.push_back({{"id", run.id},
                       {"framework", run.framework},
                       {"device", run.device},
                       {"quantity", run.quantity},
                       {"error_fraction", run.error_fraction},
                       {"distance", run.distance}});
  }
  return {{"fits", plan.fit.verdict == FitVerdict::kFits},
          {"fit", fit_json(plan, flags)},
          {"evidence",
           {{"calibration", plan.framework.name + " on " + plan.job.hardware.device + ", " + source +
                                (links == plan.framework.fitted_to.end() ? "" : "; links by " + links->second)},
            {"nearest", nearest},
            {"outside", plan.evidence.outside},
            {"interval_widening", plan.evidence.widening}}},
          {"memory", memory_json(plan)},
          {"throughput", throughput_json(plan)},
          {"elastic",
           {{"sum_k", plan.sum_k},
            {"peak_allocated_bytes", plan.peak_allocated},
            {"step_seconds", plan.time.step.summary()}}},
          {"run", run_json(plan)},
          {"intervals",
           {{"peak_allocated_bytes", interval(plan.peak_interval)},
            {"peak_reserved_bytes", interval(plan.reserved_interval)},
            {"step_seconds", interval(plan.step_interval)}}}};
}

}  // namespace mmoe
