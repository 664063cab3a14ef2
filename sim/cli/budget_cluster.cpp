#include "sim/cli/budget_cluster.h"

#include <algorithm>
#include <iostream>

#include "sim/cli/calibration_flag.h"
#include "sim/cli/table.h"
#include "sim/config/enum_names.h"
#include "sim/plan/cluster_budget.h"

namespace mmoe {
namespace {

void print_choice(const ClusterBudget& plan, std::ostream& out) {
  const TunedBudget& choice = *plan.tuning.choice;
  const int decimals = gib_decimals(plan.tuning.free_largest_peak);
  const auto gib_of = [decimals](double bytes) { return in_gib(bytes, decimals) + " GiB"; };
  out << plan.job.where << ": ";
  if (plan.tuning.budget_needed) {
    out << "sum of k " << budget_text(choice.budget) << " keeps the allocated peak at " << gib_of(choice.peak) << " of "
        << gib_of(plan.tuning.limit);
  } else {
    out << "no budget is needed: the allocated peak stays at " << gib_of(choice.peak) << " of "
        << gib_of(plan.tuning.limit);
  }
  out << " at " << percent(plan.request.confidence) << " over " << plan.steps << " steps of "
      << significant(plan.replicas, 4) << " replicas\n\n";
  Table table{.header = {"", "with", "without"}, .rows = {}};
  table.add({"peak allocated, GiB", in_gib(choice.peak, decimals), in_gib(plan.tuning.free_peak, decimals)});
  table.add({"mean k", significant(plan.mean_k, 3), significant(plan.free_mean_k, 3)});
  const Summary with = plan.with.time.step.summary(), without = plan.without.time.step.summary();
  table.add({"step, mean, s", significant(with.mean, 4), significant(without.mean, 4)});
  table.add({"step, p99, s", significant(with.p99, 4), significant(without.p99, 4)});
  table.add({"bubble from uneven k, s", significant(plan.with.uneven_k_seconds, 3),
             significant(plan.without.uneven_k_seconds, 3)});
  table.add({"tokens/s per device", significant(plan.with.tokens_per_second_per_device, 4),
             significant(plan.without.tokens_per_second_per_device, 4)});
  print_table(table, out);
  out << "\nsaving: " << percent(choice.saving.p99) << " of the unbudgeted peak, " << percent(choice.saving.mean)
      << " of its mean over steps, " << percent(choice.saving.k_max) << " of k_max throughout; "
      << percent(plan.k_dependent_fraction)
      << " of the unbudgeted peak depends on k\nexpected FLOPs: " << percent(plan.expected_flops_fraction)
      << " of the unbudgeted; KL divergence " << significant(choice.kl_divergence, 3) << " nats a micro-batch in all\n";
}

void print_front(const ClusterBudget& plan, std::ostream& out) {
  const std::vector<TunedBudget>& front = plan.tuning.front;
  if (front.empty()) return;
  out << "\nOther budgets, none better than another in saving, KL and expected k\n";
  Table table{.header = {"kind", "saving", "peak, GiB", "KL, nats", "expected k"}, .rows = {}};
  const int decimals = gib_decimals(plan.tuning.free_largest_peak);
  for (const std::size_t i : shown_points(front.size())) {
    const TunedBudget& point = front[i];
    table.add({name_of(point.budget.kind), percent(point.saving.p99), in_gib(point.peak, decimals),
               significant(point.kl_divergence, 3), percent(point.expected_sum_fraction)});
  }
  print_table(table, out, "  ");
}

void print_uses(const ClusterBudget& plan, std::ostream& out) {
  if (plan.uses.empty()) {
    out << "\nNeither larger micro-batches nor less recomputation would be faster within the same memory.\n";
    return;
  }
  out << "\nWhat the memory buys, each within the same limit\n";
  Table table{.header = {"change", "sum of k", "KL, nats", "tokens/s per device", "gain"}, .rows = {}};
  for (const FreedMemoryUse& use : plan.uses) {
    table.add({use.change, use.budget_needed ? budget_text(use.budget.budget) : "no budget",
               significant(use.budget.kl_divergence, 3), significant(use.speed.tokens_per_second_per_device, 4),
               percent(use.gain)});
  }
  print_table(table, out, "  ");
}

}  // namespace

std::string budget_text(const Budget& budget) {
  std::string text = name_of(budget.kind);
  for (std::size_t g = 0; g < budget.sum_k.size(); ++g) {
    text += (g == 0 ? " " : ", ") + std::to_string(budget.sum_k[g]);
  }
  return text;
}

std::vector<std::size_t> shown_points(std::size_t size) {
  constexpr std::size_t kMostPoints = 12;
  const std::size_t count = std::min(kMostPoints, size);
  std::vector<std::size_t> points;
  for (std::size_t i = 0; i < count; ++i) {
    points.push_back(count == 1 ? 0 : i * (size - 1) / (count - 1));
  }
  return points;
}

ExitCode cluster_budget_command(const Flags& flags, const Job& job, const BudgetRequest& request) {
  const Framework framework = framework_for(flags, job);
  const ClusterBudget plan = plan_cluster_budget(job, framework, request);
  if (flags.json()) {
    std::cout << to_json(plan).dump(2) << '\n';
  } else {
    if (plan.tuning.choice) print_choice(plan, std::cout);
    print_front(plan, std::cout);
    print_uses(plan, std::cout);
  }
  if (plan.tuning.choice) return ExitCode::kDone;
  std::cout.flush();
  std::cerr << job.where << ": no budget reaches the goal: " << plan.tuning.reason << '\n';
  return ExitCode::kAnswerIsNo;
}

}  // namespace mmoe
