#pragma once
// The activation budget of a job: its memory as the tuner's terms, the tuned bound and what it does to the draws.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "sim/calibration/calibration.h"
#include "sim/config/job.h"
#include "sim/elastic/budget_tuner.h"
#include "sim/elastic/elastic_law.h"
#include "sim/units/units.h"

namespace mmoe {

// At most one of memory_limit and saving; without either the limit is the device's usable memory.
struct BudgetRequest {
  std::optional<Bytes> memory_limit;
  std::optional<double> saving;  // in (0, 1): 1 - budgeted / unbudgeted peak at the confidence over the horizon
  double confidence = 0.99;      // in (0, 1)
  int64_t steps = 0;             // horizon; 0: those of training.tokens, else 1000
};

struct BudgetPlan {
  Job job;                   // with the tuned budget in place of its own, or with none
  double confidence = 0.99;  // as asked for
  BudgetGoal goal;           // what was left to the tuner: its confidence covers the draws alone
  Bytes memory_limit;        // as asked for; goal.memory_limit is lower by the memory model's own error
  int64_t steps = 0;
  BudgetTuning tuning;
  ElasticLaw with, without;            // equal where there is no choice
  double expected_flops_fraction = 1;  // model FLOPs of a step, expected, over those without a budget
  double k_dependent_fraction = 0;  // of the unbudgeted peak, above that of k_min in every layer: no budget saves more
};

// Throws ConfigError for requests out of range and for jobs that draw no k (no MoE layers, top_p).
void check_budget_request(const Job& job, const BudgetRequest& request);

// Steps of the horizon: as asked for, else those of training.tokens, else 1000.
int64_t budget_horizon(const Job& job, const BudgetRequest& request);

// What is left to the draws where predictions are off by a factor exp(spread z): half of the risk goes to each.
struct DrawsLimit {
  double bytes = 0, confidence = 0;
};
DrawsLimit draws_limit(Bytes limit, double confidence, double spread);

// Tunes a budget for the job; its own budget is ignored. A memory limit is kept with `confidence` over both the draws
// and the memory model's error (the calibration's spread): half of the risk each. A saving is a ratio, in which that
// error cancels. Throws ConfigError where nothing is drawn (no MoE layers, top_p) and for requests out of range.
BudgetPlan plan_budget(const Job& job, const Calibration& calibration, const BudgetRequest& request);

// The job with elastic.budget = "auto" resolved: the bound of least KL that keeps the device's usable memory over the
// run at 99 %, or none of effect where none is needed. Other jobs as they are. Throws ConfigError where no bound fits.
Job with_automatic_budget(const Job& job, const Calibration& calibration);

// Adds the keys sum_k, marginals, kl_divergence and entropy of the draws.
void add_laws(nlohmann::json& json, const ElasticLaw& with, const ElasticLaw& without);

// The keys of design.md's `mmoe budget`; `budget` is null where no bound keeps the promise.
nlohmann::json to_json(const BudgetPlan& plan);

// Parts of it that cluster jobs share: the three savings, and a budget as a job file holds it.
nlohmann::json saving_json(const Saving& saving);
nlohmann::json budget_json(const Job& job, const Budget& budget);

}  // namespace mmoe
