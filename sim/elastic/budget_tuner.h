#pragma once
// Finds the activation budget that keeps the most diversity while the peak keeps a promise.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/running_maximum.h"

namespace mmoe {

// Memory of one pipeline rank with one micro-batch: max(least, constant + the running maximum over its own MoE layers).
// Of devices that share the draws but not the load, `others` are the running maxima beside the first: P(a peak above x)
// counts as the sum over all of them, which is no less than that of the highest.
struct StageMemory {
  double constant = 0;  // bytes
  double least = 0;     // bytes: the peak is never lower, whatever is drawn
  RunningMaximumTerms terms;
  std::vector<RunningMaximumTerms> others = {};
  int64_t num_layers() const { return static_cast<int64_t>(terms.fixed.size()); }
};

// What a budget has to reach: exactly one of memory_limit and saving.
struct BudgetGoal {
  std::optional<double> memory_limit;  // bytes
  std::optional<double> saving;        // 1 - budgeted / unbudgeted peak, each at `confidence` over the horizon
  double confidence = 0.99;            // in (0, 1)
  // Independent draws that each stage makes: over the horizon, and in one step (1 for granularity global_batch).
  double horizon_draws = 1;
  double step_draws = 1;
};

// 1 - the budgeted peak at the stated confidence over the horizon / a baseline of the unbudgeted one.
struct Saving {
  double p99 = 0;    // baseline: the same quantile over the same horizon
  double mean = 0;   // baseline: mean peak of a step
  double k_max = 0;  // baseline: the largest peak that the unbudgeted law allows
};

struct TunedBudget {
  Budget budget;                        // one group a stage
  double kl_divergence = 0;             // nats, of the whole draw from the free law
  double kl_standard_error = 0;         // 0: exact
  double expected_sum_fraction = 1;     // E[sum of k] over its value without a budget
  double peak = 0;                      // bytes, at the confidence over the horizon, largest stage
  double probability_within_limit = 1;  // of all stages over the horizon
  Saving saving;
};

struct BudgetTuning {
  double limit = 0;              // bytes: the goal's, or what its saving comes to
  double free_peak = 0;          // bytes, without a budget, at the confidence over the horizon
  double free_mean_peak = 0;     // bytes, of one step
  double free_largest_peak = 0;  // bytes, the largest that the law allows
  double free_probability_within_limit = 0;
  bool budget_needed = true;          // false: the free law keeps the promise; `choice` is then the loosest bound
  std::vector<TunedBudget> front;     // none has another with KL and peak no higher and expected k no lower; by peak
  std::optional<TunedBudget> choice;  // least KL that keeps the promise, then most expected k
  std::string reason;                 // why there is no choice
};

// Drops budgets beaten by another with KL and peak no higher and expected k no lower; sorts the rest by peak.
void keep_undominated(std::vector<TunedBudget>& budgets);

// Tunes `at_most` and `exact` bounds, one a stage: the choice is the least sum of KL over the stages (a multiple-choice
// knapsack, solved exactly) with P(no stage passes the limit over the horizon) >= confidence. The config's own budget
// is ignored. Bounds that the free law meets with a probability below 1e-280 are left out, and where a stage has more
// than 256 bounds the front (not the choice) steps over some.
BudgetTuning tune_budget(const ElasticConfig& config, const std::vector<StageMemory>& stages, const BudgetGoal& goal);

}  // namespace mmoe
