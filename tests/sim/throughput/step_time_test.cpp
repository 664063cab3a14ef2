#include "sim/throughput/step_time.h"

#include <gtest/gtest.h>

#include "sim/throughput/roofline.h"
#include "tests/sim/throughput/example_job.h"

namespace mmoe {
namespace {

double seconds_of(const std::vector<OperationCost>& costs, const RooflineParameters& p) {
  double sum = 0;
  for (const OperationCost& cost : costs) sum += operation_seconds(cost, p).value;
  return sum;
}

TEST(StepTime, IsTheSumOfItsOperations) {
  Job job = example_job();
  job.model.num_dense_layers = 1;
  job.model.dense_hidden_size = 512;
  const Calibration calibration = default_calibration(job.hardware.spec);
  const StepTimeModel model(job, calibration);
  const RooflineParameters& p = model.parameters();
  const std::vector<std::vector<int>> draws = {{1, 2, 6}, {3, 3, 1}};
  const double direct =
      p.step_factor * (seconds_of(step_operations(job, draws[0]), p) + seconds_of(step_operations(job, draws[1]), p) +
                       seconds_of(update_operations(job), p)) +
      p.step_overhead;
  // Some hundred terms added in another order: far below 1e-12.
  EXPECT_NEAR(model.step_seconds(draws).value / direct, 1, 1e-12);
  double parts = 0;
  for (const auto& [name, seconds] : model.breakdown(draws)) parts += seconds.value;
  EXPECT_NEAR(parts / direct, 1, 1e-12);
}

TEST(StepTime, ForwardIsPartOfTheMicroBatch) {
  const Job job = example_job();
  const StepTimeModel model(job, default_calibration(job.hardware.spec));
  for (size_t i = 0; i < 16; ++i) EXPECT_LT(model.experts_forward_seconds()[0][i], model.experts_seconds()[0][i]);
  EXPECT_LT(model.forward_seconds({2, 2, 2, 2}), model.micro_batch_seconds({2, 2, 2, 2}));
}

// Over precisions, devices and shapes: one more active expert never takes less time.
TEST(StepTime, NeverFallsWithK) {
  for (const Precision precision : {Precision::kFp64, Precision::kFp32, Precision::kBf16}) {
    for (const int64_t micro_batch : {1, 3, 32}) {
      for (const bool cpu : {true, false}) {
        ExampleJob sizes;
        sizes.precision = precision;
        sizes.micro_batch_size = micro_batch;
        sizes.num_experts = 64;
        Job job = example_job(sizes);
        job.hardware.spec.is_cpu = cpu;
        const StepTimeModel model(job, default_calibration(job.hardware.spec));
        for (const auto* table : {&model.experts_seconds(), &model.experts_forward_seconds()}) {
          for (size_t i = 1; i < 64; ++i) EXPECT_GE((*table)[0][i], (*table)[0][i - 1]) << "k " << i + 1;
        }
      }
    }
  }
}

TEST(StepTime, NeverFallsWithTheMicroBatchOrTheSequence) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    double last = 0;
    for (int64_t micro_batch = 1; micro_batch <= 40; ++micro_batch) {
      ExampleJob sizes;
      sizes.precision = precision;
      sizes.micro_batch_size = micro_batch;
      const Job job = example_job(sizes);
      const double now =
          StepTimeModel(job, default_calibration(job.hardware.spec)).micro_batch_seconds({1, 2, 3, 4}).value;
      EXPECT_GE(now, last) << micro_batch;
      last = now;
    }
    last = 0;
    for (int64_t seq_len = 16; seq_len <= 4096; seq_len *= 2) {
      ExampleJob sizes;
      sizes.precision = precision;
      sizes.seq_len = seq_len;
      const Job job = example_job(sizes);
      const double now =
          StepTimeModel(job, default_calibration(job.hardware.spec)).micro_batch_seconds({1, 2, 3, 4}).value;
      EXPECT_GT(now, last) << seq_len;
      last = now;
    }
  }
}

TEST(StepTime, RejectsDrawsThatDoNotFit) {
  const Job job = example_job();
  const StepTimeModel model(job, default_calibration(job.hardware.spec));
  EXPECT_THROW(model.micro_batch_seconds({1, 2}), std::logic_error);
  EXPECT_THROW(model.micro_batch_seconds({0, 1, 1, 1}), std::logic_error);
  EXPECT_THROW(model.micro_batch_seconds({17, 1, 1, 1}), std::logic_error);
}

TEST(StepTime, ModelFlopsUtilization) {
  EXPECT_DOUBLE_EQ(model_flops_utilization(Flops{4e12}, Seconds{2}, tflop_per_s(4), 2), 0.25);
}

}  // namespace
}  // namespace mmoe
