#include <iostream>

#include "sim/cli/calibration_flag.h"
#include "sim/cli/commands.h"
#include "sim/cli/megatron_flag.h"
#include "sim/cli/plan_device.h"
#include "sim/cli/plan_layouts.h"
#include "sim/plan/cluster_plan.h"

namespace mmoe {
namespace {

PlanRequest request_of(const Flags& flags) {
  PlanRequest request;
  request.top = flags.get<int>("top");
  request.objective = flags.get("objective");
  request.confidence = flags.get<double>("confidence");
  request.search_budget = flags.get<bool>("search-budget");
  request.budget_limits = {flags.get<double>("min-sum-fraction"), flags.get<double>("max-kl")};
  check(request);
  return request;
}

// The answer with what write_best said.
void print_json(nlohmann::json answer, const nlohmann::json& megatron) {
  if (!megatron.is_null()) answer["megatron"] = megatron;
  std::cout << answer.dump(2) << '\n';
}

ExitCode plan_device(const Flags& flags, const Job& job, const PlanRequest& request) {
  const PlanSearchResult result = find_device_plans(job, calibration_for(flags, job), request);
  const nlohmann::json megatron =
      result.candidates.empty() ? nlohmann::json() : write_best(flags, result.candidates[0].plan.job);
  flags.json() ? print_json(to_json(result, request), megatron) : print(result, request);
  if (!result.candidates.empty()) return ExitCode::kDone;
  std::cerr << "no candidate fits " << to_string(job.hardware.usable_memory) << " with probability "
            << request.confidence
            << (searches_budget(job, request) ? "" : "; try --search-budget, or leave training.micro_batch_size open")
            << '\n';
  return ExitCode::kAnswerIsNo;
}

ExitCode plan_layouts(const Flags& flags, const Job& job, const PlanRequest& request) {
  const LayoutPlans plans = find_layout_plans(job, framework_for(flags, job), request);
  const nlohmann::json megatron =
      plans.shown.empty() ? nlohmann::json() : write_best(flags, plans.shown.front().plan.job);
  flags.json() ? print_json(to_json(job, plans, request), megatron) : print(plans, std::cout);
  if (!plans.shown.empty()) return ExitCode::kDone;
  std::cerr << job.where << ": no layout fits " << to_string(job.hardware.usable_memory) << " with probability "
            << request.confidence << "; use more devices, or leave training.recompute and micro_batch_size open\n";
  return ExitCode::kAnswerIsNo;
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
  const PlanRequest request = request_of(flags);
  const Job job = flags.job(Layout::kOpen);
  return is_cluster_job(job) ? plan_layouts(flags, job, request) : plan_device(flags, job, request);
}

}  // namespace mmoe
