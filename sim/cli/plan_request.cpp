#include "sim/cli/plan_request.h"

#include "sim/units/errors.h"

namespace mmoe {

void check(const PlanRequest& request) {
  const std::string& objective = request.objective;
  if (objective != "days" && objective != "cost" && objective != "tokens_per_s") {
    throw ConfigError("--objective " + objective + " is unknown; give days, cost or tokens_per_s");
  }
  if (!(request.confidence > 0 && request.confidence < 1)) {
    throw ConfigError("--confidence must lie between 0 and 1, e.g. 0.99");
  }
  const BudgetLimits& limits = request.budget_limits;
  if (!(limits.least_sum_fraction > 0 && limits.least_sum_fraction <= 1)) {
    throw ConfigError("--min-sum-fraction must lie above 0 and up to 1, e.g. 0.85");
  }
  if (!(limits.most_kl_per_layer > 0)) throw ConfigError("--max-kl must be above 0 nats, e.g. 0.05");
}

}  // namespace mmoe
