// mmoe budget --job JOB: the activation budget that keeps a memory limit, or saves a wanted share, at a confidence.

#include "sim/cli/budget_cluster.h"
#include "sim/cli/calibration_flag.h"
#include "sim/cli/commands.h"
#include "sim/cli/table.h"
#include "sim/elastic/budget_plan.h"
#include "sim/plan/cluster_plan.h"
#include "sim/plan/freed_memory.h"

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
  const auto gib_of = [decimals](double bytes) { return in_gib(bytes, decimals) + " GiB"; };
  if (plan.tuning.budget_needed) {
    out << plan.job.where << ": sum of k " << budget_text(choice.budget) << " keeps the peak at " << gib_of(choice.peak)
        << " of " << gib_of(plan.tuning.limit) << ' ' << horizon_text(plan) << '\n';
  } else {
    out << plan.job.where << ": no budget is needed: the peak stays at " << gib_of(choice.peak) << " of "
        << gib_of(plan.tuning.limit) << ' ' << horizon_text(plan) << '\n';
  }
  if (!plan.goal.saving && plan.tuning.limit < plan.memory_limit.value) {
    out << "The limit of " << gib_of(plan.memory_limit.value) << " is lowered by "
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
  out << "\nsaving: " << percent(choice.saving.p99) << " of the unbudgeted peak, " << percent(choice.saving.mean)
      << " of its mean over steps, " << percent(choice.saving.k_max) << " of k_max throughout; "
      << percent(plan.k_dependent_fraction)
      << " of the unbudgeted peak depends on k\nexpected FLOPs: " << percent(plan.expected_flops_fraction)
      << " of the unbudgeted; KL divergence " << significant(choice.kl_divergence, 3) << " nats in all\n";
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

void print_front(const BudgetPlan& plan, const DeviceBudgetSpeed& speed, std::ostream& out) {
  const std::vector<TunedBudget>& front = plan.tuning.front;
  if (front.empty()) return;
  out << "\nOther budgets, none better than another in saving, KL and expected k\n";
  Table table{
      .header = {"sum of k", "saving", "peak, GiB", "KL, nats", "expected k", "step, ms", "p99, ms", "P(within limit)"},
      .rows = {}};
  const int decimals = gib_decimals(plan.tuning.free_largest_peak);
  for (const std::size_t i : shown_points(front.size())) {
    const TunedBudget& point = front[i];
    table.add({budget_text(point.budget), percent(point.saving.p99), in_gib(point.peak, decimals),
               significant(point.kl_divergence, 3), percent(point.expected_sum_fraction),
               significant(1e3 * speed.front[i].mean, 4), significant(1e3 * speed.front[i].p99, 4),
               probability_text(point.probability_within_limit)});
  }
  print_table(table, out, "  ");
}

void print_uses(const DeviceBudgetSpeed& speed, std::ostream& out) {
  out << "\ntokens/s: " << significant(speed.with.tokens_per_second_per_device, 4) << " with, "
      << significant(speed.without.tokens_per_second_per_device, 4) << " without the budget\n";
  if (speed.uses.empty()) {
    out << "Neither larger micro-batches nor less recomputation would be faster within the same memory.\n";
    return;
  }
  out << "What the memory buys, each within the same limit\n";
  Table table{.header = {"change", "sum of k", "KL, nats", "tokens/s", "gain"}, .rows = {}};
  for (const DeviceMemoryUse& use : speed.uses) {
    table.add({use.change, use.budget_needed ? budget_text(use.budget.budget) : "no budget",
               significant(use.budget.kl_divergence, 3), significant(use.throughput.tokens_per_second_per_device, 4),
               percent(use.gain)});
  }
  print_table(table, out, "  ");
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
    print_front(plan, speed, std::cout);
    print_uses(speed, std::cout);
  }
  if (plan.tuning.choice) return ExitCode::kDone;
  std::cout.flush();
  std::cerr << job.where << ": no budget reaches the goal: " << plan.tuning.reason << '\n';
  return ExitCode::kAnswerIsNo;
}

}  // namespace mmoe
