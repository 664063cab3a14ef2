#include "sim/cli/plan_layouts.h"

#include <algorithm>
#include <iostream>

#include "sim/cli/megatron_flag.h"
#include "sim/cli/table.h"
#include "sim/config/enum_names.h"
#include "sim/plan/cluster_plan.h"
#include "sim/search/layout_search.h"

namespace mmoe {
namespace {

struct Simulated {
  LayoutCandidate candidate;
  ClusterPlan plan;
  bool on_front = false;
};

std::string recompute_text(const Recompute& recompute) {
  if (recompute.full) return "full";
  std::string text;
  for (const std::string& module : recompute.modules) text += (text.empty() ? "" : "+") + module;
  return text.empty() ? "none" : text;
}

nlohmann::json candidate_json(const Simulated& simulated) {
  const nlohmann::json job = to_json(simulated.plan.job), plan = to_json(simulated.plan);
  nlohmann::json json = {{"parallelism", job["parallelism"]},
                         {"training", job["training"]},
                         {"memory", plan["memory"]},
                         {"throughput", plan["throughput"]},
                         {"elastic_law", plan["elastic"]},
                         {"run", plan["run"]},
                         {"fit", plan["fit"]},
                         {"on_front", simulated.on_front}};
  if (job.contains("elastic")) json["elastic"] = job["elastic"];
  return json;
}

std::vector<std::string> row(std::size_t rank, const Simulated& simulated) {
  const ClusterPlan& plan = simulated.plan;
  const ParallelismConfig& p = plan.job.parallelism;
  const auto text = [](int64_t value) { return std::to_string(value); };
  double reserved = 0;
  for (const RankReport& report : plan.ranks) reserved = std::max(reserved, report.worst.peak_reserved.value);
  return {text(static_cast<int64_t>(rank)),
          text(p.tensor),
          text(p.context),
          text(p.pipeline),
          text(p.virtual_pipeline),
          text(plan.job.data_parallel_size()),
          text(p.expert),
          text(p.expert_tensor),
          text(p.zero_stage),
          text(plan.job.training.micro_batch_size),
          recompute_text(plan.job.training.recompute),
          plan.job.model.num_experts > 0 ? name_of(plan.job.training.moe.dispatcher) : "-",
          in_gib(reserved),
          percent(plan.fit.probability),
          significant(plan.time.step.mean(), 4),
          significant(plan.tokens_per_second_per_device, 4),
          percent(plan.model_flops_utilization),
          simulated.on_front ? "*" : ""};
}

}  // namespace

ExitCode plan_layouts(const Flags& flags, const Job& job) {
  const Framework framework =
      load_framework(flags.has("calibration") ? flags.get("calibration") : job.training.framework, job.hardware.spec,
                     flags.has("calibration") ? "--calibration" : job.where + ": training.framework");
  LayoutSearchOptions options;
  const auto top = static_cast<std::size_t>(std::max(1, flags.get<int>("top")));
  options.top = 2 * static_cast<int64_t>(top);  // some may fail the full simulation
  options.confidence = flags.get<double>("confidence");
  const LayoutSearchResult result = search_layouts(job, framework, options);
  std::vector<Simulated> shown;
  for (const LayoutCandidate& candidate : result.candidates) {
    if (shown.size() == top) break;
    Simulated simulated{candidate, simulate_cluster(with_layout(job, candidate), framework), false};
    simulated.on_front = std::any_of(result.front.begin(), result.front.end(), [&](const LayoutCandidate& other) {
      return other.step_seconds == candidate.step_seconds && other.peak_bytes == candidate.peak_bytes;
    });
    if (simulated.plan.fit.probability >= options.confidence) shown.push_back(std::move(simulated));
  }
  std::stable_sort(shown.begin(), shown.end(), [](const Simulated& a, const Simulated& b) {
    return a.plan.time.step.mean() < b.plan.time.step.mean();
  });
  const nlohmann::json megatron = shown.empty() ? nlohmann::json() : write_best(flags, shown.front().plan.job);
  if (flags.json()) {
    nlohmann::json rejected = nlohmann::json::object();
    for (const auto& [reason, rejection] : result.rejected) {
      rejected[reason] = {{"count", rejection.count}};
      if (rejection.least_excess_bytes > 0) rejected[reason]["least_excess_bytes"] = rejection.least_excess_bytes;
    }
    nlohmann::json front = nlohmann::json::array(), candidates = nlohmann::json::array();
    for (const LayoutCandidate& candidate : result.front) {
      const nlohmann::json resolved = to_json(with_layout(job, candidate));
      front.push_back({{"parallelism", resolved["parallelism"]},
                       {"micro_batch_size", candidate.micro_batch_size},
                       {"recompute", resolved["training"]["recompute"]},
                       {"step_seconds", candidate.step_seconds},
                       {"peak_reserved_bytes", candidate.peak_bytes}});
    }
    for (const Simulated& simulated : shown) candidates.push_back(candidate_json(simulated));
    nlohmann::json json = {{"objective", flags.get("objective")},
                           {"evaluated", result.evaluated},
                           {"rejected", rejected},
                           {"seconds", result.seconds},
                           {"front", front},
                           {"candidates", candidates}};
    if (!megatron.is_null()) json["megatron"] = megatron;
    std::cout << json.dump(2) << '\n';
  } else {
    Table table{.header = {"rank", "tensor", "context", "pipeline", "virtual", "data", "expert", "exp.tensor", "zero",
                           "micro", "recompute", "dispatch", "GiB", "fits", "step s", "tokens/s", "MFU", "front"},
                .rows = {}};
    for (std::size_t i = 0; i < shown.size(); ++i) table.add(row(i + 1, shown[i]));
    print_table(table, std::cout);
    std::cout << result.evaluated << " layouts evaluated in " << significant(result.seconds, 3) << " s\n";
    for (const auto& [reason, rejection] : result.rejected) {
      std::cout << "  " << rejection.count << " rejected: " << reason;
      if (rejection.least_excess_bytes > 0) {
        std::cout << "; the closest by " << in_gib(rejection.least_excess_bytes) << " GiB";
      }
      std::cout << '\n';
    }
    std::cout << "* no other layout that fits is both faster and smaller\n";
  }
  if (!shown.empty()) return ExitCode::kDone;
  std::cerr << job.where << ": no layout fits " << to_string(job.hardware.usable_memory) << " with probability "
            << options.confidence << "; use more devices, or leave training.recompute and micro_batch_size open\n";
  return ExitCode::kAnswerIsNo;
}

}  // namespace mmoe
