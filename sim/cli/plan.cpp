#include <iostream>

#include "sim/cli/calibration_flag.h"
#include "sim/cli/commands.h"
#include "sim/cli/megatron_flag.h"
#include "sim/cli/plan_device.h"
#include "sim/cli/plan_layouts.h"
#include "sim/cli/plan_remedies.h"
#include "sim/cli/plan_tables.h"
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

// Of a search that found something: writes the best, adds what was said of it.
ExitCode finish(const Flags& flags, nlohmann::json answer, const Job& best) {
  const nlohmann::json megatron = write_best(flags, best);
  if (!megatron.is_null()) answer["megatron"] = megatron;
  if (flags.json()) std::cout << answer.dump(2) << '\n';
  return ExitCode::kDone;
}

// Of one that found nothing: says so, and what would make the job fit.
ExitCode finish_without(const Flags& flags, nlohmann::json answer, const Job& job, const OpenJob& load,
                        const PlanRequest& request, const char* what) {
  std::cout.flush();
  std::cerr << job.where << ": no " << what << " fits " << to_string(job.hardware.usable_memory) << " with probability "
            << request.confidence << '\n';
  const std::string calibration = calibration_path(flags);
  add_remedies(answer, job, find_plan_remedies(load, calibration, request), calibration, request);
  if (flags.json()) {
    std::cout << answer.dump(2) << '\n';
  } else {
    print_remedies(answer, std::cout);
  }
  return ExitCode::kAnswerIsNo;
}

ExitCode plan_device(const Flags& flags, const Job& job, const OpenJob& load, const PlanRequest& request) {
  const PlanSearchResult result = find_device_plans(job, calibration_for(flags, job), request);
  if (!flags.json()) print(result, request);
  nlohmann::json answer = to_json(result, request);
  if (result.candidates.empty()) return finish_without(flags, std::move(answer), job, load, request, "candidate");
  return finish(flags, std::move(answer), result.candidates.front().plan.job);
}

ExitCode plan_layouts(const Flags& flags, const Job& job, const OpenJob& load, const PlanRequest& request) {
  const LayoutPlans plans = find_layout_plans(job, framework_for(flags, job), request);
  if (!flags.json()) print(job, plans, std::cout);
  nlohmann::json answer = to_json(job, plans, request);
  if (plans.shown.empty()) return finish_without(flags, std::move(answer), job, load, request, "layout");
  return finish(flags, std::move(answer), plans.shown.front().plan.job);
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
  const OpenJob load = [&](const Overrides& settings) {
    return load_job(flags.get("job"), with_settings(flags.overrides, settings), Layout::kOpen);
  };
  const Job job = load({});
  return is_cluster_job(job) ? plan_layouts(flags, job, load, request) : plan_device(flags, job, load, request);
}

}  // namespace mmoe
