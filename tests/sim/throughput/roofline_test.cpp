#include "sim/throughput/roofline.h"

#include <gtest/gtest.h>

#include "sim/units/errors.h"
#include "tests/sim/throughput/example_job.h"

namespace mmoe {
namespace {

// A machine whose every rate is 1, so that seconds can be read off the work.
RooflineParameters unit_machine() {
  RooflineParameters p;
  p.matmul_peak = p.matmul_peak_fp32 = 1;
  p.bandwidth = 1;
  p.exponential_rate = 1;
  p.cache_bytes = 1;
  p.cache_bandwidth_ratio = 1;
  return p;
}

OperationCost product(double rows, double columns, double inner) {
  OperationCost cost;
  cost.cost_class = CostClass::kGemm;
  cost.rows = rows;
  cost.columns = columns;
  cost.inner = inner;
  cost.flops = 2 * rows * columns * inner;
  return cost;
}

TEST(Roofline, OverlapGoesFromSumToMaximum) {
  OperationCost cost = product(1, 1, 4);
  cost.bytes = cost.working_set = 5;
  RooflineParameters p = unit_machine();
  p.overlap = 1;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 8);
  p.overlap = 0;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 13);
  p.overlap = 0.5;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 10.5);
}

TEST(Roofline, CallsCostTheirOverhead) {
  OperationCost cost = product(1, 1, 4);
  cost.calls = 3;
  RooflineParameters p = unit_machine();
  p.gemm_call_overhead = 10;
  p.grouped_gemm_call_overhead = 100;
  p.call_overhead = 1000;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 30 + 8);
  cost.cost_class = CostClass::kGroupedGemm;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 300 + 8);
  cost.cost_class = CostClass::kMemory;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 3000);
}

TEST(Roofline, HalfPerformanceLengths) {
  RooflineParameters p = unit_machine();
  p.gemm_half_rows = 64;
  EXPECT_DOUBLE_EQ(gemm_shape_factor(64, 10, 10, p), 0.5);
  p.gemm_half_columns = 10;
  p.gemm_half_inner = 30;
  EXPECT_DOUBLE_EQ(gemm_shape_factor(64, 10, 10, p), 0.5 * 0.5 * 0.25);
  EXPECT_NEAR(gemm_shape_factor(1e9, 1e9, 1e9, p), 1, 1e-6);
}

TEST(Roofline, CacheServesSmallWorkingSets) {
  OperationCost cost;
  cost.cost_class = CostClass::kMemory;
  cost.bytes = 100;
  RooflineParameters p = unit_machine();
  p.cache_bandwidth_ratio = 4;
  p.cache_bytes = 1000;
  cost.working_set = 1;  // (1/1000)^2 of the traffic goes to memory
  EXPECT_NEAR(operation_seconds(cost, p).value, 25, 1e-4);
  cost.working_set = 1000;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 100 * (0.5 / 4 + 0.5));
  cost.working_set = 1e9;
  EXPECT_NEAR(operation_seconds(cost, p).value, 100, 1e-3);
}

TEST(Roofline, AttentionLossAndUpdateHaveTheirOwnRates) {
  RooflineParameters p = unit_machine();
  p.attention_efficiency = 0.5;
  p.attention_backward_efficiency = 0.25;
  p.update_efficiency = 0.2;
  OperationCost cost;
  cost.cost_class = CostClass::kAttention;
  cost.flops = 10;
  cost.exponentials = 2;
  cost.rows = cost.columns = 100;
  cost.inner = 30;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 22);
  p.attention_half_head_dim = 30;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 42);
  p.attention_half_seq_len = 100;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 82);
  p.attention_half_head_dim = 0;
  cost.phase = Phase::kBackward;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 42);
  p.logit_rate = 0.1;
  cost = OperationCost{};
  cost.cost_class = CostClass::kLoss;
  cost.exponentials = 3;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 30);
  cost = OperationCost{};
  cost.cost_class = CostClass::kUpdate;
  cost.bytes = cost.working_set = 10;
  EXPECT_DOUBLE_EQ(operation_seconds(cost, p).value, 50);
}

TEST(Roofline, MeasuredPeaksReplaceTheDatasheet) {
  const Job job = example_job();
  Calibration calibration = default_calibration(job.hardware.spec);
  EXPECT_EQ(roofline_parameters(calibration, job.hardware, Precision::kFp32).matmul_peak, 2e11);
  calibration.parameters.push_back({"matmul_peak.fp32", 1.5e11, 0, 1, 1e15, "FLOP/s", "measured"});
  calibration.parameters.push_back({"stream_bandwidth", 3e10, 0, 1, 1e15, "bytes/s", "measured"});
  const RooflineParameters p = roofline_parameters(calibration, job.hardware, Precision::kBf16);
  EXPECT_EQ(p.matmul_peak, 8e11);
  EXPECT_EQ(p.matmul_peak_fp32, 1.5e11);
  EXPECT_EQ(p.bandwidth, 3e10);
  EXPECT_EQ(device_peak(calibration, job.hardware.spec, Precision::kFp32).value, 1.5e11);
  DeviceSpec gpu = job.hardware.spec;
  gpu.is_cpu = false;
  EXPECT_EQ(device_peak(calibration, gpu, Precision::kFp32).value, 2e11);
}

TEST(Roofline, UnknownPeakIsTheUsersError) {
  Job job = example_job();
  job.hardware.spec.name = "a100-sxm-80gb";
  const Calibration calibration = default_calibration(job.hardware.spec);
  try {
    roofline_parameters(calibration, job.hardware, Precision::kFp8);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(
        std::string(error.what()).find("training.precision = fp8: hardware.device a100-sxm-80gb has no known peak"),
        std::string::npos);
  }
}

}  // namespace
}  // namespace mmoe
