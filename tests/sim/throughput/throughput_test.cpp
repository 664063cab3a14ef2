#include "sim/throughput/throughput.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sim/formulas/model_flops.h"
#include "tests/sim/throughput/example_job.h"

namespace mmoe {
namespace {

Job small_job() {
  ExampleJob sizes;
  sizes.num_layers = 3;
  sizes.k_max = 4;
  return example_job(sizes);
}

// All 4^3 draws of a micro-batch, two micro-batches a step: mean and spread by enumeration.
TEST(Throughput, LawEqualsEnumeration) {
  const Job job = small_job();
  const Calibration calibration = default_calibration(job.hardware.spec);
  const StepTimeModel model(job, calibration);
  double sum = 0, squares = 0, largest = 0;
  for (int a = 1; a <= 4; ++a) {
    for (int b = 1; b <= 4; ++b) {
      for (int c = 1; c <= 4; ++c) {
        const double seconds = model.micro_batch_seconds({a, b, c}).value;
        sum += seconds;
        squares += seconds * seconds;
        largest = std::max(largest, seconds);
      }
    }
  }
  const double mean = sum / 64, variance = squares / 64 - mean * mean;
  const double expected = 2 * mean + model.update_seconds().value;
  const Throughput result = predict_throughput(job, calibration);
  EXPECT_NEAR(result.step.value / expected, 1, 1e-12);
  EXPECT_NEAR(result.step_law.mean / expected, 1, 1e-9);
  EXPECT_NEAR(result.step_law.std / std::sqrt(2 * variance), 1, 1e-3);
  EXPECT_NEAR(result.step_law.max / (2 * largest + model.update_seconds().value), 1, 1e-6);
  EXPECT_LE(result.step_law.p50, result.step_law.p99);
  EXPECT_LE(result.step_law.p99, result.step_law.max);
}

TEST(Throughput, QuantitiesAgreeWithEachOther) {
  const Job job = small_job();
  const Throughput result = predict_throughput(job, default_calibration(job.hardware.spec));
  EXPECT_DOUBLE_EQ(result.tokens_per_second_per_device, 8 * 256 / result.step.value);
  const double flops = model_step_flops(job.model, 256, 8, 3 * 2.5).value;
  EXPECT_DOUBLE_EQ(result.model_flops_utilization, flops / result.step.value / 2e11);
  EXPECT_GT(result.model_flops_utilization, 0);
  EXPECT_LT(result.model_flops_utilization, 1);
  double parts = 0;
  for (const auto& [name, seconds] : result.breakdown) parts += seconds.value;
  EXPECT_NEAR(parts / result.step.value, 1, 1e-12);
  EXPECT_LT(result.step_interval.low, result.step.value);
  EXPECT_GT(result.step_interval.high, result.step.value);
}

TEST(Throughput, BudgetAndSpecialistChangeTheDraws) {
  Job job = small_job();
  const Calibration calibration = default_calibration(job.hardware.spec);
  const double free = predict_throughput(job, calibration).step.value;
  Budget budget;
  budget.groups = {3};
  budget.sum_k = {6};
  job.elastic.budget = budget;
  EXPECT_LT(predict_throughput(job, calibration).step.value, free);
  job.elastic.budget.reset();
  job.elastic.sampling = Sampling::kFixed;
  job.elastic.k_min = job.elastic.k_max = 2;
  const Throughput fixed = predict_throughput(job, calibration);
  const StepTimeModel model(job, calibration);
  EXPECT_NEAR(fixed.step.value / model.step_seconds({{2, 2, 2}, {2, 2, 2}}).value, 1, 1e-12);
  EXPECT_NEAR(fixed.step_law.std / fixed.step.value, 0, 1e-9);
}

TEST(Throughput, DenseModelHasOneStepTime) {
  Job job = small_job();
  job.model.num_experts = 0;
  job.model.dense_hidden_size = 512;
  const Throughput result = predict_throughput(job, default_calibration(job.hardware.spec));
  EXPECT_EQ(result.step_law.std, 0);
  EXPECT_DOUBLE_EQ(result.step_law.max, result.step.value);
}

}  // namespace
}  // namespace mmoe
