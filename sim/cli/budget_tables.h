#pragma once
// What `mmoe budget` prints alike for one device and for several.

#include <cstddef>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "sim/cli/flags.h"
#include "sim/cli/table.h"
#include "sim/elastic/budget_tuner.h"
#include "sim/plan/freed_memory.h"

namespace mmoe {

// "at_most 49, 52": kind and bounds.
std::string budget_text(const Budget& budget);

// "sum of k at_most 49 keeps the peak at 60.1 GiB of 61.0 GiB", or that no budget is needed. `peak` names the peak; the
// tuning has a choice.
std::string kept_text(const BudgetTuning& tuning, const std::string& peak);

// The choice's savings, expected FLOPs and KL divergence, which is `nats`: "nats in all".
void print_saving(const TunedBudget& choice, double k_dependent_fraction, double expected_flops_fraction,
                  const std::string& nats, std::ostream& out);

// A table of the front, 12 points at most, evenly spread, its ends among them; nothing where it is empty. `first` is
// the column that names the budget, `more` are those behind the columns that all have: `more_cells` gives a point's, by
// its index in the front.
struct FrontColumns {
  std::string first;
  std::function<std::string(const Budget&)> first_cell;
  std::vector<std::string> more{};
  std::function<std::vector<std::string>(std::size_t)> more_cells{};
};
void print_front(const BudgetTuning& tuning, const FrontColumns& columns, std::ostream& out);

// `speed`: heading of the tokens/s.
template <class Speed>
void print_uses(const std::vector<FreedMemoryUse<Speed>>& uses, const std::string& speed, std::ostream& out) {
  if (uses.empty()) {
    out << "Neither larger micro-batches nor less recomputation would be faster within the same memory.\n";
    return;
  }
  out << "What the memory buys, each within the same limit\n";
  Table table{.header = {"change", "sum of k", "KL, nats", speed, "gain"}, .rows = {}};
  for (const FreedMemoryUse<Speed>& use : uses) {
    table.add({use.change, use.budget_needed ? budget_text(use.budget.budget) : "no budget",
               significant(use.budget.kl_divergence, 3), significant(use.speed.tokens_per_second_per_device, 4),
               percent(use.gain)});
  }
  print_table(table, out, "  ");
}

// Says on standard error why there is no choice. `where`: the job.
ExitCode budget_exit(const std::string& where, const BudgetTuning& tuning);

}  // namespace mmoe
