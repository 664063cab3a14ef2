#include "sim/elastic/budget_plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "sim/memory/step_memory.h"
#include "sim/units/errors.h"
#include "tests/sim/elastic/small_job.h"

namespace mmoe {
namespace {

// No model error, so that limits are what they say.
Calibration certain(const Job& job) {
  Calibration calibration = default_calibration(job.hardware.spec);
  calibration.peak_bytes_spread = 0;
  return calibration;
}

std::string error_of(const Job& job, const BudgetRequest& request) {
  try {
    plan_budget(job, certain(job), request);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(PlanBudget, TheLargestDrawUnderTheChoiceStaysWithinTheLimit) {
  const Job job = small_job();
  BudgetRequest request;
  request.saving = 0.05;
  request.steps = 100000000;  // long enough that every draw occurs
  const BudgetPlan plan = plan_budget(job, certain(job), request);
  ASSERT_TRUE(plan.tuning.choice);
  ASSERT_TRUE(plan.job.elastic.budget);
  EXPECT_EQ(plan.goal.horizon_draws, 4e8);
  EXPECT_EQ(plan.job.elastic.budget->groups, std::vector<int64_t>{6});
  const int64_t bound = plan.job.elastic.budget->sum_k[0];
  const double overhead = certain(job).framework_overhead().value;
  // Even the worst order of such a draw: all k at the end or at the start.
  std::vector<int> rising(6, 1);
  int64_t left = bound - 6;
  for (size_t l = 6; l-- > 0;) {
    const auto more = static_cast<int>(std::min<int64_t>(left, 5));
    rising[l] += more;
    left -= more;
  }
  const std::vector<int> falling(rising.rbegin(), rising.rend());
  EXPECT_LE(step_peak(job, rising).total.value + overhead, plan.tuning.choice->peak + 1);
  EXPECT_LE(step_peak(job, falling).total.value + overhead, plan.tuning.choice->peak + 1);
  EXPECT_LE(plan.tuning.choice->peak, plan.tuning.limit);
  EXPECT_NEAR(plan.tuning.free_largest_peak, step_peak(job, std::vector<int>(6, 6)).total.value + overhead, 1);
  EXPECT_GE(plan.k_dependent_fraction, plan.tuning.choice->saving.p99);
}

TEST(PlanBudget, PrintsTheContractsKeys) {
  const Job job = small_job();
  BudgetRequest request;
  request.saving = 0.05;
  const nlohmann::json json = to_json(plan_budget(job, certain(job), request));
  EXPECT_TRUE(json["budget"].contains("kind"));
  EXPECT_EQ(json["budget"]["groups"], (std::vector<int64_t>{6}));
  const auto total = [](const nlohmann::json& pairs) {
    double sum = 0;
    for (const auto& pair : pairs) sum += pair[1].get<double>();
    return sum;
  };
  EXPECT_NEAR(total(json["sum_k"]["with"][0]), 1, 1e-12);
  EXPECT_NEAR(total(json["sum_k"]["without"][0]), 1, 1e-12);
  EXPECT_EQ(json["sum_k"]["without"][0].size(), 31u);
  EXPECT_EQ(json["marginals"].size(), 6u);
  EXPECT_EQ(json["marginals"][0].size(), 6u);
  EXPECT_EQ(json["kl_divergence"]["by_layer"].size(), 6u);
  EXPECT_GT(json["kl_divergence"]["all"], 0.0);
  EXPECT_LT(json["expected_flops_fraction"], 1.0);
  for (const char* key : {"p99", "mean", "k_max"}) EXPECT_TRUE(json["saving_fraction"][key].is_number()) << key;
  EXPECT_GE(json["saving_fraction"]["p99"], 0.05);
}

// With an uncertain memory model the limit shrinks by the error's quantile, and the draws keep half of the risk.
TEST(PlanBudget, ModelErrorTakesHalfOfTheRisk) {
  const Job job = small_job();
  Calibration calibration = certain(job);
  calibration.peak_bytes_spread = 0.1;
  BudgetRequest request;
  request.memory_limit = gib(30);
  request.confidence = 0.95;
  const BudgetPlan plan = plan_budget(job, calibration, request);
  EXPECT_NEAR(plan.tuning.limit / gib(30).value, std::exp(-0.1 * 1.959964), 1e-6);  // 97.5 % of the normal law
  EXPECT_DOUBLE_EQ(plan.goal.confidence, 0.975);
  EXPECT_FALSE(plan.tuning.budget_needed);
}

TEST(PlanBudget, SaysWhyThereIsNone) {
  const Job job = small_job();
  BudgetRequest request;
  request.memory_limit = Bytes{1e6};
  const BudgetPlan none = plan_budget(job, certain(job), request);
  EXPECT_FALSE(none.tuning.choice);
  EXPECT_NE(none.tuning.reason.find("alone take"), std::string::npos) << none.tuning.reason;
  EXPECT_TRUE(to_json(none)["budget"].is_null());
  request = {};
  request.saving = 0.9;
  EXPECT_FALSE(plan_budget(job, certain(job), request).tuning.choice);
}

TEST(PlanBudget, RefusesBadRequests) {
  BudgetRequest confidence, both, saving;
  confidence.confidence = 1;
  both.saving = 0.1;
  both.memory_limit = gib(1);
  saving.saving = 1.5;
  EXPECT_NE(error_of(small_job(), confidence).find("--confidence"), std::string::npos);
  EXPECT_NE(error_of(small_job(), both).find("--saving"), std::string::npos);
  EXPECT_NE(error_of(small_job(), saving).find("--saving"), std::string::npos);
  EXPECT_NE(error_of(small_job({{"elastic.sampling", "top_p"}}), {}).find("top_p"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
