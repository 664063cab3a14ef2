#include "sim/cli/plan_tables.h"

#include <algorithm>
#include <ostream>

#include "sim/cli/table.h"
#include "sim/plan/cluster_plan.h"
#include "sim/units/units.h"

namespace mmoe {
namespace {

using nlohmann::json;

// The 90 % interval of a quantity, each bound printed by `print`.
template <class Print>
std::string interval(const json& plan, const char* quantity, Print&& print) {
  const json& bounds = plan["intervals"][quantity];
  std::string text = "[";
  text.append(print(bounds[0].get<double>())).append(", ").append(print(bounds[1].get<double>())).append("]");
  return text;
}

std::string in_seconds(double seconds) { return to_string(Seconds{seconds}); }

// "97.3 %"; what would round to 100 % is "over 99.9 %".
std::string probability_text(double probability) {
  return probability >= 0.9995 ? "over 99.9 %" : percent(probability);
}

// The stage whose peak is the highest.
const json& worst_stage(const json& plan) {
  const json& stages = plan["memory"]["stages"];
  return *std::max_element(stages.begin(), stages.end(), [](const json& a, const json& b) {
    return a["peak_allocated_bytes"].get<double>() < b["peak_allocated_bytes"].get<double>();
  });
}

// The most that a rank offloads.
double host_bytes(const json& plan) {
  double most = 0;
  for (const json& stage : plan["memory"]["stages"]) most = std::max(most, stage.value("host_bytes", 0.0));
  return most;
}

void print_memory(const json& plan, const Job& job, std::ostream& out) {
  const double peak = plan["memory"]["peak_allocated_bytes"];
  out << "\nMemory at the highest moment of the worst draw (" << worst_stage(plan).value("moment", "") << ")\n";
  const int decimals = gib_decimals(peak);
  Table table{.header = {"cause", "GiB", "share"}, .rows = {}};
  for (const auto& [cause, bytes] : memory_causes(plan)) {
    table.add({cause, in_gib(bytes, decimals), percent(bytes / peak)});
  }
  table.add({"peak allocated", in_gib(peak, decimals), percent(1)});
  table.add({"usable of " + in_gib(job.hardware.spec.memory.value) + " on " + job.hardware.device,
             in_gib(plan["fit"]["limit_bytes"]), ""});
  print_table(table, out, "  ");
  if (const double host = host_bytes(plan); host > 0) {
    const double limit = plan["fit"].value("host_limit_bytes", 0.0);
    out << "  offloaded to the host: " << in_gib(host) << " GiB a device, of "
        << (limit > 0 ? in_gib(limit) : std::string("unknown memory")) << '\n';
  }
}

void print_time(const json& plan, std::ostream& out) {
  const json& throughput = plan["throughput"];
  const double step = throughput["step_seconds"];
  out << "\nTime of a step: " << in_seconds(step) << " " << interval(plan, "step_seconds", in_seconds) << ", "
      << significant(throughput["tokens_per_second_per_device"], 4) << " tokens/s and "
      << significant(throughput["model_tflops_per_device"], 3) << " TFLOP/s per device, MFU "
      << percent(throughput["model_flops_utilization"]) << "\n";
  std::vector<std::pair<std::string, double>> causes;
  for (const auto& [cause, seconds] : throughput["breakdown_seconds"].items()) causes.emplace_back(cause, seconds);
  std::stable_sort(causes.begin(), causes.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  Table table{.header = {"cause", "ms", "share"}, .rows = {}};
  for (const auto& [cause, seconds] : causes) {
    std::string name = cause;
    std::replace(name.begin(), name.end(), '_', ' ');
    table.add({name, significant(seconds * 1e3, 3), percent(seconds / step)});
  }
  print_table(table, out, "  ");
}

void print_laws(const json& plan, std::ostream& out) {
  Table table{.header = {"over the draws of k", "mean", "std", "p50", "p99", "max"}, .rows = {}};
  const auto add = [&](const char* name, const char* key, double unit, int digits) {
    const json& law = plan["elastic"][key];
    std::vector<std::string> row = {name};
    for (const char* statistic : {"mean", "std", "p50", "p99", "max"}) {
      row.push_back(significant(law[statistic].get<double>() / unit, digits));
    }
    table.add(row);
  };
  out << '\n';
  add("sum of k, one micro-batch", "sum_k", 1, 4);
  add("peak allocated of a step, GiB", "peak_allocated_bytes", gib(1).value, 4);
  if (plan["elastic"].contains("step_seconds")) add("time of a step, s", "step_seconds", 1, 4);
  print_table(table, out);
}

void print_run(const json& plan, std::ostream& out) {
  const json& run = plan["run"];
  if (!run["days"].is_number()) return;
  out << "\nWhole run: " << run.value("steps", int64_t{0}) << " steps, "
      << in_seconds(run["days"].get<double>() * 86400) << ", " << significant(run["device_hours"], 3)
      << " device hours";
  if (run["cost"].is_number()) out << ", $ " << significant(run["cost"], 4);
  out << '\n';
}

}  // namespace

std::vector<std::pair<std::string, double>> memory_causes(const json& plan) {
  const json& stage = worst_stage(plan);
  std::vector<std::pair<std::string, double>> causes;
  const auto add = [&](const json& object, const char* key, const char* name) {
    if (object.contains(key)) causes.emplace_back(name, object[key].get<double>());
  };
  add(stage, "weights_bytes", "weights");
  add(stage, "gradients_bytes", "gradients");
  add(stage, "optimizer_bytes", "optimizer");
  add(stage, "activations_bytes", "activations");
  if (!stage.contains("buffers")) {
    add(stage, "buffers_bytes", "buffers");
    return causes;
  }
  add(stage["buffers"], "logits_bytes", "logits");
  add(stage["buffers"], "layer_at_work_bytes", "layer at work");
  add(stage["buffers"], "workspace_bytes", "workspace");
  add(stage["buffers"], "tables_and_tokens_bytes", "tables and tokens");
  add(stage["buffers"], "framework_bytes", "framework");
  return causes;
}

std::string verdict_line(const json& plan) {
  const json& fit = plan["fit"];
  std::string verdict = "does not fit";
  if (fit["verdict"] == "fits") verdict = "fits with " + probability_text(fit["probability"]);
  if (fit["verdict"] == "at_risk") verdict = "at risk, fits with " + probability_text(fit["probability"]);
  const json& limiting = fit["limiting"];
  if (limiting["cause"] == kHostMemory) {
    return verdict + ": " + in_gib(host_bytes(plan)) + " GiB offloaded by a device, of " +
           in_gib(fit["host_limit_bytes"]) + " that each has of the host's memory";
  }
  const double peak = plan["memory"]["peak_allocated_bytes"];
  const auto gibs = [decimals = gib_decimals(peak)](double bytes) { return in_gib(bytes, decimals); };
  std::string text = verdict + ": " + gibs(peak) + " GiB " + interval(plan, "peak_allocated_bytes", gibs) + " of " +
                     in_gib(fit["limit_bytes"]) + " usable; highest at ";
  if (plan["memory"]["stages"].size() > 1) text += "stage " + std::to_string(limiting["stage"].get<int64_t>()) + ", ";
  text += limiting.value("moment", "?") + ", mostly " + limiting.value("cause", "?");
  const json& evidence = plan["evidence"];
  if (evidence.contains("nearest") && !evidence["nearest"].empty()) {
    text += "; nearest measured run " + evidence["nearest"][0]["id"].get<std::string>();
  }
  return text;
}

void print_remedies(const json& answer, std::ostream& out) {
  const json& remedies = answer["remedies"];
  out << (remedies.empty() ? "\nNo single change makes it fit.\n" : "\nWhat makes it fit, cheapest first\n");
  for (const json& remedy : remedies) {
    out << "  " << remedy["change"].get<std::string>();
    if (const json& lost = remedy["tokens_per_second_lost"]; lost.is_number()) {
      out << ": " << significant(std::abs(lost.get<double>()), 3) << " tokens/s per device "
          << (lost.get<double>() >= 0 ? "lost" : "gained");
    }
    out << "\n    " << remedy["command"].get<std::string>() << '\n';
  }
}

void print_plan(const json& plan, const Job& job, std::ostream& out) {
  out << job.where << ": " << verdict_line(plan) << '\n';
  print_memory(plan, job, out);
  print_time(plan, out);
  print_laws(plan, out);
  print_run(plan, out);
  if (plan["fits"] != true) {
    print_remedies(plan["fit"], out);
    if (plan["fit"]["remedies"].empty()) out << "mmoe plan searches combinations.\n";
  }
  const json& evidence = plan["evidence"];
  if (evidence.contains("nearest") && !evidence["nearest"].empty()) {
    out << "\nNearest measured runs:";
    for (const json& run : evidence["nearest"]) {
      out << "\n  " << run["id"].get<std::string>() << " (" << run["framework"].get<std::string>() << ", "
          << run["device"].get<std::string>() << "): " << run["quantity"].get<std::string>() << " was predicted "
          << significant(100 * run["error_fraction"].get<double>(), 2) << " % off";
    }
    for (const json& what : evidence["outside"]) out << "\n  outside: " << what.get<std::string>();
    out << '\n';
  }
  out << "\nCalibration: " << plan["evidence"].value("calibration", "") << ". [..] are 90 % intervals.\n";
  if (job.training.operations == OperationSet::kAten) {
    out << "Of the kernels: bytes and times of training.operations = aten are not modelled.\n";
  }
}

}  // namespace mmoe
