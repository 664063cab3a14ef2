#include <algorithm>
#include <cstdio>

#include "sim/cli/calibration_flag.h"
#include "sim/cli/commands.h"
#include "sim/cli/megatron_flag.h"
#include "sim/cli/plan_layouts.h"
#include "sim/plan/cluster_plan.h"
#include "sim/search/plan_search.h"

namespace mmoe {
namespace {

std::string recompute_text(const Recompute& recompute) {
  if (recompute.full) return "full";
  std::string text;
  for (const std::string& module : recompute.modules) text += (text.empty() ? "" : "+") + module;
  return text.empty() ? "none" : text;
}

std::string budget_text(const PlanCandidate& candidate) {
  const auto& budget = candidate.plan.job.elastic.budget;
  if (!budget) return "none";
  int64_t total = 0;
  for (const int64_t bound : budget->sum_k) total += bound;
  return (budget->kind == BudgetKind::kExact ? "= " : "<= ") + std::to_string(total);
}

nlohmann::json candidate_json(const PlanCandidate& candidate) {
  const nlohmann::json job = to_json(candidate.plan.job), plan = to_json(candidate.plan);
  return {{"parallelism", job["parallelism"]},
          {"training", job["training"]},
          {"elastic", job["elastic"]},
          {"memory", plan["memory"]},
          {"throughput", plan["throughput"]},
          {"run", plan["run"]},
          {"fit", plan["fit"]},
          {"kl_divergence", candidate.kl_divergence},
          {"expected_sum_fraction", candidate.expected_sum_fraction},
          {"on_front", candidate.on_front}};
}

}  // namespace

ExitCode plan_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "plan";
  command.purpose = "searches layout, micro-batch, recomputation and activation budget; what the job gives stays";
  command.example = "mmoe plan --job job.json --top 5 --objective tokens_per_s";
  command.add_job();
  add_calibration(command);
  command.options.add_options()("top", po::value<int>()->default_value(10), "candidates to show")(
      "objective", po::value<std::string>()->default_value("tokens_per_s"),
      "days, cost or tokens_per_s: with the number of devices given, all three rank alike")(
      "out", po::value<std::string>()->value_name("FILE"), "write the best candidate as a job file")(
      "confidence", po::value<double>()->default_value(0.99), "least probability of fitting over the run")(
      "search-budget", po::bool_switch(), "where a candidate does not fit, tune an activation budget")(
      "min-sum-fraction", po::value<double>()->default_value(0.85, "0.85"),
      "with --search-budget, several devices: least E[sum of k] over that of the job's own law")(
      "max-kl", po::value<double>()->default_value(0.05, "0.05"),
      "with --search-budget, several devices: most KL of a layer's k from its own law, nats");
  add_megatron(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  check_megatron(flags);
  const std::string objective = flags.get("objective");
  if (objective != "days" && objective != "cost" && objective != "tokens_per_s") {
    throw ConfigError("--objective " + objective + " is unknown; give days, cost or tokens_per_s");
  }
  const double confidence = flags.get<double>("confidence");
  if (!(confidence > 0 && confidence < 1)) throw ConfigError("--confidence must lie between 0 and 1, e.g. 0.99");
  const Job job = flags.job(Layout::kOpen);
  if (is_cluster_job(job)) return plan_layouts(flags, job);
  check_layout(job);
  const bool with_budget = flags.get<bool>("search-budget") || job.elastic.budget_is_auto;
  const Calibration calibration = calibration_for(flags, job);
  const PlanSearchResult result =
      search_plans(job, calibration, confidence, with_budget ? BudgetSearch::kOn : BudgetSearch::kOff);
  const auto shown = std::min<size_t>(result.candidates.size(), std::max(0, flags.get<int>("top")));
  const nlohmann::json megatron =
      result.candidates.empty() ? nlohmann::json() : write_best(flags, result.candidates[0].plan.job);
  if (flags.json()) {
    nlohmann::json json = {{"objective", objective},
                           {"evaluated", result.evaluated},
                           {"rejected", result.rejected},
                           {"seconds", result.seconds},
                           {"candidates", nlohmann::json::array()}};
    for (size_t i = 0; i < shown; ++i) json["candidates"].push_back(candidate_json(result.candidates[i]));
    if (!megatron.is_null()) json["megatron"] = megatron;
    std::cout << json.dump(2) << '\n';
  } else {
    std::printf("%4s  %11s  %-10s  %-7s  %12s  %10s  %9s  %7s\n", "rank", "micro-batch", "recompute", "sum k", "peak",
                "step", "tokens/s", "front");
    for (size_t i = 0; i < shown; ++i) {
      const PlanCandidate& candidate = result.candidates[i];
      const Plan& plan = candidate.plan;
      std::printf("%4zu  %11ld  %-10s  %-7s  %12s  %10s  %9.0f  %7s\n", i + 1,
                  static_cast<long>(plan.job.training.micro_batch_size),
                  recompute_text(plan.job.training.recompute).c_str(), budget_text(candidate).c_str(),
                  to_string(plan.memory.total()).c_str(), to_string(plan.throughput.step).c_str(),
                  plan.throughput.tokens_per_second_per_device, candidate.on_front ? "*" : "");
    }
    std::printf("%ld evaluated in %s", static_cast<long>(result.evaluated), to_string(Seconds{result.seconds}).c_str());
    for (const auto& [reason, count] : result.rejected) {
      std::printf("; %ld rejected: %s", static_cast<long>(count), reason.c_str());
    }
    std::printf("\n* no other candidate is as fast, as small and as rich in active experts\n");
  }
  if (!result.candidates.empty()) return ExitCode::kDone;
  std::cerr << "no candidate fits " << to_string(job.hardware.usable_memory) << " with probability " << confidence
            << (with_budget ? "" : "; try --search-budget, or leave training.micro_batch_size open") << '\n';
  return ExitCode::kAnswerIsNo;
}

}  // namespace mmoe
