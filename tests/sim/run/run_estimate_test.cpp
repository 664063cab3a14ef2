#include "sim/run/run_estimate.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

// 1e6 steps of 4 s on 1024 devices: 46.3 days.
RunConditions conditions() {
  return {.tokens = 4e12,
          .tokens_per_step = 4e6,
          .step = Seconds{4},
          .num_devices = 1024,
          .checkpoint_write = Seconds{60},
          .restart = Seconds{600}};
}

ClusterSpec cluster() {
  ClusterSpec cluster;
  cluster.price_per_device_hour = 2;
  cluster.hours_between_failures = 51'200;
  cluster.power_watt_per_device = 1000;
  return cluster;
}

TEST(EstimateRun, WithoutAClusterOnlyTimeIsKnown) {
  const RunEstimate run = estimate_run(conditions(), {});
  EXPECT_EQ(run.num_steps, 1e6);
  EXPECT_EQ(run.wall.value, 4e6);
  EXPECT_EQ(run.compute.value, 4e6);
  EXPECT_DOUBLE_EQ(run.days(), 4e6 / 86400);
  EXPECT_DOUBLE_EQ(run.device_hours, 4e6 / 3600 * 1024);
  EXPECT_FALSE(run.cost);
  EXPECT_FALSE(run.energy_kwh);
  EXPECT_FALSE(run.failures);
}

TEST(EstimateRun, CountsTheLastPartialStep) {
  RunConditions partial = conditions();
  partial.tokens += 1;
  EXPECT_EQ(estimate_run(partial, {}).num_steps, 1e6 + 1);
}

TEST(EstimateRun, HandComputed) {
  const RunEstimate run = estimate_run(conditions(), cluster());
  ASSERT_TRUE(run.failures);
  const FailureEstimate& failures = *run.failures;
  EXPECT_EQ(failures.between_failures.value, 50 * 3600);
  // Daly: sqrt(2 * 60 * 180000) = 4647.58, e = sqrt(60 / 360000) = 0.0129099: 4647.58 * 1.00432184 - 60 = 4607.67 s.
  EXPECT_NEAR(failures.checkpoint_interval.value, 4607.67, 0.01);
  // T / work = e^(600 / 180000) (e^(4667.67 / 180000) - 1) * 180000 / 4607.67
  //   = 1.00333890 * 0.02627055 * 39.06530 = 1.02970; each factor's last digit is worth less than 1e-5.
  EXPECT_NEAR(1 / failures.goodput_fraction, 1.02970, 1e-5);
  EXPECT_DOUBLE_EQ(run.wall.value, 4e6 / failures.goodput_fraction);
  EXPECT_DOUBLE_EQ(failures.num_failures, run.wall.value / 180000);
  EXPECT_DOUBLE_EQ(run.device_hours, run.wall.value / 3600 * 1024);
  EXPECT_DOUBLE_EQ(*run.cost, 2 * run.device_hours);
  EXPECT_DOUBLE_EQ(*run.energy_kwh, run.device_hours);
}

TEST(EstimateRun, FailuresNeedTheTimeOfACheckpoint) {
  RunConditions unknown = conditions();
  unknown.checkpoint_write = Seconds{0};
  const RunEstimate run = estimate_run(unknown, cluster());
  EXPECT_FALSE(run.failures);
  EXPECT_EQ(run.wall.value, 4e6);
  EXPECT_TRUE(run.cost);
}

// Without failures one checkpoint is left, at the end. M = 1e30 s: the corrections, of order work / M, vanish.
TEST(EstimateRun, DevicesThatNeverFail) {
  ClusterSpec perfect = cluster();
  perfect.hours_between_failures = 1e30;
  const RunEstimate run = estimate_run(conditions(), perfect);
  EXPECT_EQ(run.failures->checkpoint_interval.value, 4e6);
  EXPECT_NEAR(run.wall.value, 4e6 + 60, 1e-6);  // doubles near 4e6 are 5e-10 apart
  EXPECT_NEAR(run.failures->num_failures, 0, 1e-18);
}

TEST(EstimateRun, GoodputFallsWithTheNumberOfDevices) {
  double last = 1;
  for (const int64_t num_devices : {1, 64, 1024, 16'384, 131'072}) {
    RunConditions scaled = conditions();
    scaled.num_devices = num_devices;
    const double goodput = estimate_run(scaled, cluster()).failures->goodput_fraction;
    EXPECT_LT(goodput, last) << num_devices;
    EXPECT_GT(goodput, 0);
    last = goodput;
  }
}

TEST(EstimateRun, ConditionsMustBePositive) {
  RunConditions broken = conditions();
  broken.tokens_per_step = 0;
  EXPECT_THROW(estimate_run(broken, cluster()), std::logic_error);
}

}  // namespace
}  // namespace mmoe
