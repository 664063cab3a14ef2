#pragma once
// What `mmoe plan` and the Python module's plan() are asked for.

#include <string>

#include "sim/search/layout_budgets.h"

namespace mmoe {

struct PlanRequest {
  int top = 10;  // candidates in the answer
  std::string objective = "tokens_per_s";
  double confidence = 0.99;    // least probability of fitting over the run
  bool search_budget = false;  // tune an activation budget where a candidate does not fit
  BudgetLimits budget_limits;
};

// Throws ConfigError where a value lies outside its range; the message names the flag.
void check(const PlanRequest& request);

}  // namespace mmoe
