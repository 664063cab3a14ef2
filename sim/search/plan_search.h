#pragma once
// Searches what a job leaves open on one device: micro-batch size, recomputation, what experts keep and, if asked,
// an activation budget.

#include <map>
#include <string>
#include <vector>

#include "sim/calibration/calibration.h"
#include "sim/config/job.h"
#include "sim/plan/simulate.h"

namespace mmoe {

enum class BudgetSearch { kOff, kOn };

struct PlanCandidate {
  Plan plan;
  double own_law_tokens_per_second = 0;  // per device, at the job's own law
  double kl_divergence = 0;              // nats, of the draw from the job's own law: 0 unless a budget was searched
  double expected_sum_fraction = 1;      // E[sum of k] over that of the job's own law
  bool on_front = false;                 // no other candidate is at least as good in time, memory and expected sum of k
};

struct PlanSearchResult {
  std::vector<PlanCandidate> candidates;  // that fit, fastest first; candidates with the job's own law stand first
  int64_t evaluated = 0;
  std::map<std::string, int64_t> rejected;  // by reason
  double seconds = 0;                       // that the search took
};

// Everything in Job::given stays; the rest is tried in all valid combinations. Candidates are ranked at one elastic
// law: one that needs a budget stands behind every one that needs none, however fast. Throws ConfigError as simulate
// does.
PlanSearchResult search_plans(const Job& job, const Calibration& calibration, double confidence, BudgetSearch budget);

}  // namespace mmoe
