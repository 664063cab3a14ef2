#include "sim/cli/budget_tables.h"

#include <algorithm>
#include <iostream>

#include "sim/config/enum_names.h"

namespace mmoe {
namespace {

std::vector<std::size_t> shown_points(std::size_t size) {
  constexpr std::size_t kMostPoints = 12;
  const std::size_t count = std::min(kMostPoints, size);
  std::vector<std::size_t> points;
  for (std::size_t i = 0; i < count; ++i) {
    points.push_back(count == 1 ? 0 : i * (size - 1) / (count - 1));
  }
  return points;
}

}  // namespace

std::string budget_text(const Budget& budget) {
  std::string text = name_of(budget.kind);
  for (std::size_t g = 0; g < budget.sum_k.size(); ++g) {
    text += (g == 0 ? " " : ", ") + std::to_string(budget.sum_k[g]);
  }
  return text;
}

std::string kept_text(const BudgetTuning& tuning, const std::string& peak) {
  const int decimals = gib_decimals(tuning.free_largest_peak);
  const TunedBudget& choice = *tuning.choice;
  const std::string bytes = in_gib(choice.peak, decimals) + " GiB of " + in_gib(tuning.limit, decimals) + " GiB";
  if (!tuning.budget_needed) return "no budget is needed: the " + peak + " stays at " + bytes;
  return "sum of k " + budget_text(choice.budget) + " keeps the " + peak + " at " + bytes;
}

void print_saving(const TunedBudget& choice, double k_dependent_fraction, double expected_flops_fraction,
                  const std::string& nats, std::ostream& out) {
  out << "\nsaving: " << percent(choice.saving.p99) << " of the unbudgeted peak, " << percent(choice.saving.mean)
      << " of its mean over steps, " << percent(choice.saving.k_max) << " of k_max throughout; "
      << percent(k_dependent_fraction)
      << " of the unbudgeted peak depends on k\nexpected FLOPs: " << percent(expected_flops_fraction)
      << " of the unbudgeted; KL divergence " << significant(choice.kl_divergence, 3) << ' ' << nats << '\n';
}

void print_front(const BudgetTuning& tuning, const FrontColumns& columns, std::ostream& out) {
  if (tuning.front.empty()) return;
  out << "\nOther budgets, none better than another in saving, KL and expected k\n";
  Table table{.header = {columns.first, "saving", "peak, GiB", "KL, nats", "expected k"}, .rows = {}};
  table.header.insert(table.header.end(), columns.more.begin(), columns.more.end());
  const int decimals = gib_decimals(tuning.free_largest_peak);
  for (const std::size_t i : shown_points(tuning.front.size())) {
    const TunedBudget& point = tuning.front[i];
    std::vector<std::string> row = {columns.first_cell(point.budget), percent(point.saving.p99),
                                    in_gib(point.peak, decimals), significant(point.kl_divergence, 3),
                                    percent(point.expected_sum_fraction)};
    if (columns.more_cells) {
      for (std::string& cell : columns.more_cells(i)) row.push_back(std::move(cell));
    }
    table.add(std::move(row));
  }
  print_table(table, out, "  ");
}

ExitCode budget_exit(const std::string& where, const BudgetTuning& tuning) {
  if (tuning.choice) return ExitCode::kDone;
  std::cout.flush();
  std::cerr << where << ": no budget reaches the goal: " << tuning.reason << '\n';
  return ExitCode::kAnswerIsNo;
}

}  // namespace mmoe
