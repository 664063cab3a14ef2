#pragma once
// What memory that a budget frees can be spent on, and how much faster a step becomes.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "sim/config/job.h"
#include "sim/elastic/budget_plan.h"
#include "sim/units/errors.h"

namespace mmoe {

// One change that spends memory for speed, within the same limit. `Speed`: with tokens_per_second_per_device.
template <class Speed>
struct FreedMemoryUse {
  std::string change;  // "--training.micro_batch_size 2"
  TunedBudget budget;  // the loosest bound where none is needed
  bool budget_needed = false;
  Speed speed;
  double gain = 0;  // tokens/s over the unbudgeted job's, less 1
};

// Changes of one key that spend memory for speed: larger micro-batches, less recomputation. Not all need be valid jobs.
std::vector<Overrides> spending_changes(const Job& job);
// "--training.micro_batch_size 2".
std::string flag_text(const Overrides& change);

// The changes that are faster than `without`, the speed of the unbudgeted job `free`; the fastest first. `tuning_of`
// tunes the changed job's budget for the same memory, `speed_of` times it under that tuning, which has a choice. A
// ConfigError of either leaves the change out.
template <class Speed, class TuningOf, class SpeedOf>
std::vector<FreedMemoryUse<Speed>> uses_of_freed_memory(const Job& free, const Speed& without,
                                                        const TuningOf& tuning_of, const SpeedOf& speed_of) {
  std::vector<FreedMemoryUse<Speed>> uses;
  const nlohmann::json resolved = to_json(free);
  for (const Overrides& change : spending_changes(free)) {
    try {
      const Job changed = parse_job(resolved, free.where, "/", change);
      const BudgetTuning tuning = tuning_of(changed);
      if (!tuning.choice) continue;
      FreedMemoryUse<Speed> use{flag_text(change), *tuning.choice, tuning.budget_needed, speed_of(changed, tuning), 0};
      use.gain = use.speed.tokens_per_second_per_device / without.tokens_per_second_per_device - 1;
      if (use.gain > 0) uses.push_back(std::move(use));
    } catch (const ConfigError&) {  // not a valid job: no use
    }
  }
  std::sort(uses.begin(), uses.end(), [](const auto& a, const auto& b) { return a.gain > b.gain; });
  return uses;
}

// `uses_of_freed_memory[]` of `mmoe budget`; `job`: whose budgets they are.
template <class Speed>
nlohmann::json uses_json(const Job& job, const std::vector<FreedMemoryUse<Speed>>& uses,
                         nlohmann::json (*speed_json)(const Speed&)) {
  nlohmann::json list = nlohmann::json::array();
  for (const FreedMemoryUse<Speed>& use : uses) {
    list.push_back({{"change", use.change},
                    {"budget", use.budget_needed ? budget_json(job, use.budget.budget) : nlohmann::json()},
                    {"kl_divergence", use.budget.kl_divergence},
                    {"throughput", speed_json(use.speed)},
                    {"gain_fraction", use.gain}});
  }
  return list;
}

}  // namespace mmoe
