#include "sim/plan/device_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "sim/plan/simulate.h"
#include "tests/sim/elastic/small_job.h"

namespace mmoe {
namespace {

BudgetPlan plan_of(const Job& job, const BudgetRequest& request) {
  return plan_budget(job, default_calibration(job.hardware.spec), request);
}

// The limit lies between what the doubled micro-batch needs with and without a budget.
TEST(DeviceBudgetSpeed, ABudgetBuysALargerMicroBatch) {
  const Job job = small_job(), doubled = small_job({{"training.micro_batch_size", "16"}});
  const Calibration calibration = default_calibration(job.hardware.spec);
  Job least = doubled;
  least.elastic.k_max = 2;
  BudgetRequest request;
  request.memory_limit =
      Bytes{(simulate(least, calibration).peak_allocated.max + simulate(doubled, calibration).peak_allocated.max) / 2 *
            std::exp(3 * calibration.peak_bytes_spread)};
  request.steps = 1000;
  const BudgetPlan plan = plan_of(job, request);
  ASSERT_TRUE(plan.tuning.choice);
  const DeviceBudgetSpeed speed = device_budget_speed(plan, calibration);
  ASSERT_FALSE(speed.uses.empty());
  for (const FreedMemoryUse<Throughput>& use : speed.uses) {
    EXPECT_LE(use.budget.peak, plan.tuning.limit * (1 + 1e-12));
    EXPECT_DOUBLE_EQ(use.gain, use.speed.tokens_per_second_per_device / speed.without.tokens_per_second_per_device - 1);
    EXPECT_GT(use.gain, 0);
  }
  EXPECT_EQ(speed.uses.front().change, "--training.micro_batch_size 16");
  // Fewer experts in expectation, less time.
  ASSERT_EQ(speed.front.size(), plan.tuning.front.size());
  for (size_t i = 1; i < speed.front.size(); ++i) {
    const TunedBudget &here = plan.tuning.front[i], &before = plan.tuning.front[i - 1];
    EXPECT_EQ(speed.front[i].mean > speed.front[i - 1].mean, here.expected_sum_fraction > before.expected_sum_fraction);
  }
  nlohmann::json json = to_json(plan);
  add_speed(json, plan, speed);
  EXPECT_EQ(json.at("uses_of_freed_memory").size(), speed.uses.size());
  EXPECT_EQ(json.at("/front/0/step_seconds/p99"_json_pointer).get<double>(), speed.front.front().p99);
  EXPECT_EQ(json.at("/without/throughput/tokens_per_second_per_device"_json_pointer).get<double>(),
            speed.without.tokens_per_second_per_device);
}

// A wanted saving is spent up to what the unbudgeted job needs, no further.
TEST(DeviceBudgetSpeed, ASavingIsSpentUpToTheUnbudgetedPeak) {
  const Job job = small_job();
  BudgetRequest request;
  request.saving = 0.03;
  request.steps = 1000;
  const BudgetPlan plan = plan_of(job, request);
  ASSERT_TRUE(plan.tuning.choice);
  const DeviceBudgetSpeed speed = device_budget_speed(plan, default_calibration(job.hardware.spec));
  for (const FreedMemoryUse<Throughput>& use : speed.uses) {
    EXPECT_TRUE(use.budget_needed) << use.change;
    EXPECT_LE(use.budget.peak, plan.tuning.free_peak * (1 + 1e-12)) << use.change;
  }
  EXPECT_GT(speed.with.tokens_per_second_per_device, speed.without.tokens_per_second_per_device);
}

// Recomputation that is no longer needed is offered as such.
TEST(DeviceBudgetSpeed, RecomputationIsGivenUpWhereThereIsRoom) {
  const Job job = small_job({{"training.recompute", "full"}});
  BudgetRequest request;
  request.memory_limit = Bytes{30e9};
  request.steps = 1000;
  const DeviceBudgetSpeed speed = device_budget_speed(plan_of(job, request), default_calibration(job.hardware.spec));
  const auto none = std::find_if(speed.uses.begin(), speed.uses.end(),
                                 [](const auto& use) { return use.change == "--training.recompute none"; });
  ASSERT_NE(none, speed.uses.end());
  EXPECT_FALSE(none->budget_needed);
}

}  // namespace
}  // namespace mmoe
