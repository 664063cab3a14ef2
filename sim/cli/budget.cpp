// mmoe budget --job JOB: the activation budget that keeps a memory limit, or saves a wanted share, at a confidence.

#include "sim/cli/budget_cluster.h"
#include "sim/cli/budget_tables.h"
#include "sim/cli/calibration_flag.h"
#include "sim/cli/commands.h"
#include "sim/elastic/budget_plan.h"
#include "sim/plan/cluster_plan.h"
#include "sim/plan/device_budget.h"

namespace mmoe {
namespace {

std::string probability_text(double probability) {
  return probability > 0 && probability < 1e-4 ? "below 0.0001" : significant(probability, 4);
}

std::string horizon_text(const BudgetPlan& plan) {
  return "at " + percent(plan.confidence) + " over " + std::to_string(plan.steps) + " steps (" +
         significant(plan.goal.horizon_draws, 4) + " independent draws)";
}

void print_choice(const BudgetPlan& plan, std::ostream& out) {
  const TunedBudget& choice = *plan.tuning.choice;
  const int decimals = gib_decimals(plan.tuning.free_largest_peak);
  out << plan.job.where << ": " << kept_text(plan.tuning, "peak") << ' ' << horizon_text(plan) << '\n';
  if (!plan.goal.saving && plan.tuning.limit < plan.memory_limit.value) {
    out << "The limit of " << in_gib(plan.memory_limit.value, decimals) << " GiB is lowered by "
        << percent(1 - plan.tuning.limit / plan.memory_limit.value) << " for the memory model's own error.\n";
  }
  out << '\n';
  Table table{.header = {"", "with", "without"}, .rows = {}};
  const Summary with = plan.with.sum().summary(), without = plan.without.sum().summary();
  table.add({"peak, GiB", in_gib(choice.peak, decimals), in_gib(plan.tuning.free_peak, decimals)});
  table.add({"sum of k, mean", significant(with.mean, 4), significant(without.mean, 4)});
  table.add({"sum of k, std", significant(with.std, 3), significant(without.std, 3)});
  table.add({"sum of k, p99", significant(with.p99, 4), significant(without.p99, 4)});
  table.add({"sum of k, max", significant(with.max, 4), significant(without.max, 4)});
  table.add({"entropy of the draw, nats", significant(plan.with.entropy(), 4), significant(plan.without.entropy(), 4)});
  print_table(table, out);
  print_saving(choice, plan.k_dependent_fraction, plan.expected_flops_fraction, "nats in all", out);
}

void print_marginals(const BudgetPlan& plan, std::ostream& out) {
  Table table{.header = {"P(k)"}, .rows = {}};
  for (int k = plan.with.k_min(); k <= plan.with.k_max(); ++k) table.header.push_back("k=" + std::to_string(k));
  const auto add = [&](const char* name, const ElasticLaw& law) {
    std::vector<std::string> row = {name};
    const DiscreteLaw first = law.marginals().front();
    for (const double p : first.probabilities()) row.push_back(significant(p, 3));
    table.add(row);
  };
  add("with", plan.with);
  add("without", plan.without);
  out << '\n';
  print_table(table, out);
}

void print_speed(const BudgetPlan& plan, const DeviceBudgetSpeed& speed, std::ostream& out) {
  const auto more_cells = [&](std::size_t i) {
    return std::vector<std::string>{significant(1e3 * speed.front[i].mean, 4), significant(1e3 * speed.front[i].p99, 4),
                                    probability_text(plan.tuning.front[i].probability_within_limit)};
  };
  print_front(plan.tuning, {"sum of k", budget_text, {"step, ms", "p99, ms", "P(within limit)"}, more_cells}, out);
  out << "\ntokens/s: " << significant(speed.with.tokens_per_second_per_device, 4) << " with, "
      << significant(speed.without.tokens_per_second_per_device, 4) << " without the budget\n";
  print_uses(speed.uses, "tokens/s", out);
}

}  // namespace

ExitCode budget_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "budget";
  command.purpose = "tunes the activation budget for a memory limit or a wanted saving, at a confidence";
  command.example = "mmoe budget --job olmoe-elastic-h100 --saving 0.1 --confidence 0.99 --steps 10000";
  command.add_job();
  add_calibration(command);
  command.options.add_options()("memory-limit", po::value<std::string>()->value_name("BYTES"),
                                "peak to keep, e.g. 60GiB (default: the device's usable memory)")(
      "saving", po::value<double>()->value_name("X"), "or: share of the unbudgeted peak to save, e.g. 0.1")(
      "confidence", po::value<double>()->default_value(0.99, "0.99")->value_name("P"),
      "probability that no step of the horizon passes the limit")(
      "steps", po::value<int64_t>()->value_name("N"), "horizon (default: the steps of training.tokens, else 1000)");
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;

  BudgetRequest request;
  if (flags.has("memory-limit")) request.memory_limit = parse_bytes(flags.get("memory-limit"), "memory-limit");
  if (flags.has("saving")) request.saving = flags.get<double>("saving");
  request.confidence = flags.get<double>("confidence");
  if (flags.has("steps")) {
    request.steps = flags.get<int64_t>("steps");
    if (request.steps < 1) {
      throw ConfigError("budget: --steps = " + std::to_string(request.steps) + " must be at least 1");
    }
  }
  const Job job = flags.job();
  if (is_cluster_job(job)) return cluster_budget_command(flags, job, request);
  const Calibration calibration = calibration_for(flags, job);
  const BudgetPlan plan = plan_budget(job, calibration, request);
  const DeviceBudgetSpeed speed = device_budget_speed(plan, calibration);
  if (flags.json()) {
    nlohmann::json json = to_json(plan);
    add_speed(json, plan, speed);
    std::cout << json.dump(2) << '\n';
  } else {
    if (plan.tuning.choice) {
      print_choice(plan, std::cout);
      print_marginals(plan, std::cout);
    }
    print_speed(plan, speed, std::cout);
  }
  return budget_exit(job.where, plan.tuning);
}

}  // namespace mmoe
