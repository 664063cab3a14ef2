#include "sim/cli/budget_cluster.h"

#include <iostream>

#include "sim/cli/budget_tables.h"
#include "sim/cli/calibration_flag.h"
#include "sim/config/enum_names.h"
#include "sim/plan/cluster_budget.h"

namespace mmoe {
namespace {

void print_choice(const ClusterBudget& plan, std::ostream& out) {
  const TunedBudget& choice = *plan.tuning.choice;
  const int decimals = gib_decimals(plan.tuning.free_largest_peak);
  out << plan.job.where << ": " << kept_text(plan.tuning, "allocated peak") << " at "
      << percent(plan.request.confidence) << " over " << plan.steps << " steps of " << significant(plan.replicas, 4)
      << " replicas\n\n";
  Table table{.header = {"", "with", "without"}, .rows = {}};
  table.add({"peak allocated, GiB", in_gib(choice.peak, decimals), in_gib(plan.tuning.free_peak, decimals)});
  if (plan.load_factor != 1) {
    const std::string factor = significant(plan.load_factor, 3);
    table.add({"rows of the busiest expert rank / balanced, at most", factor, factor});
  }
  table.add({"mean k", significant(plan.mean_k, 3), significant(plan.free_mean_k, 3)});
  const Summary with = plan.with.time.step.summary(), without = plan.without.time.step.summary();
  table.add({"step, mean, s", significant(with.mean, 4), significant(without.mean, 4)});
  table.add({"step, p99, s", significant(with.p99, 4), significant(without.p99, 4)});
  table.add({"bubble from uneven k, s", significant(plan.with.uneven_k_seconds, 3),
             significant(plan.without.uneven_k_seconds, 3)});
  table.add({"tokens/s per device", significant(plan.with.tokens_per_second_per_device, 4),
             significant(plan.without.tokens_per_second_per_device, 4)});
  print_table(table, out);
  print_saving(choice, plan.k_dependent_fraction, plan.expected_flops_fraction, "nats a micro-batch in all", out);
}

}  // namespace

ExitCode cluster_budget_command(const Flags& flags, const Job& job, const BudgetRequest& request) {
  const Framework framework = framework_for(flags, job);
  const ClusterBudget plan = plan_cluster_budget(job, framework, request);
  if (flags.json()) {
    std::cout << to_json(plan).dump(2) << '\n';
  } else {
    if (plan.tuning.choice) print_choice(plan, std::cout);
    print_front(plan.tuning, {"kind", [](const Budget& budget) { return name_of(budget.kind); }}, std::cout);
    std::cout << '\n';
    print_uses(plan.uses, "tokens/s per device", std::cout);
  }
  return budget_exit(job.where, plan.tuning);
}

}  // namespace mmoe
