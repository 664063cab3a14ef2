#include "sim/calibration/calibration.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sim/calibration/parameters.h"
#include "sim/units/errors.h"
#include "tests/sim/throughput/example_job.h"

namespace mmoe {
namespace {

DeviceSpec cpu() { return example_job().hardware.spec; }

DeviceSpec gpu(const char* name) {
  DeviceSpec device;
  device.name = name;
  return device;
}

TEST(Calibration, DefaultsLieInsideTheirBoundsWithWideErrors) {
  for (const DeviceSpec& device : {cpu(), gpu("v100-sxm-32gb"), gpu("a100-sxm-80gb"), gpu("h100-sxm-80gb"),
                                   gpu("b200-sxm-180gb"), gpu("mi300x")}) {
    const Calibration calibration = default_calibration(device);
    EXPECT_EQ(calibration.device, device.name);
    EXPECT_EQ(calibration.parameters.size(), kTimeParameters.size() + 1);
    for (const CalibrationParameter& p : calibration.parameters) {
      EXPECT_GE(p.value, p.low) << p.name;
      EXPECT_LE(p.value, p.high) << p.name;
      EXPECT_GE(p.standard_error, 0.08 * p.value) << p.name;
    }
  }
  EXPECT_GT(default_calibration(gpu("a100-sxm-80gb")).value("gemm_efficiency", Precision::kBf16),
            default_calibration(gpu("mi300x")).value("gemm_efficiency", Precision::kBf16));
}

TEST(Calibration, PrecisionOverridesTheGeneralValue) {
  Calibration calibration = default_calibration(cpu());
  CalibrationParameter own = calibration.parameter("gemm_efficiency", Precision::kBf16);
  own.name = "gemm_efficiency.bf16";
  own.value = 0.33;
  calibration.parameters.push_back(own);
  EXPECT_EQ(calibration.value("gemm_efficiency", Precision::kBf16), 0.33);
  EXPECT_NE(calibration.value("gemm_efficiency", Precision::kFp32), 0.33);
  EXPECT_THROW(calibration.value("no_such_parameter", Precision::kFp32), std::logic_error);
}

TEST(Calibration, UnboundedScaleGoesBothWaysAndKeepsBounds) {
  for (const auto& [low, high] :
       {std::pair{0.05, 1.3}, std::pair{1e-8, 2e-3}, std::pair{0.0, 1.0}, std::pair{0.0, 4e9}}) {
    for (const double fraction : {0.01, 0.3, 0.5, 0.99}) {
      const double value = low + fraction * (high - low);
      EXPECT_NEAR(from_unbounded(to_unbounded(value, low, high), low, high) / value, 1, 1e-12);
    }
    for (const double unbounded : {-1e3, -5.0, 0.0, 5.0, 1e3}) {
      EXPECT_GE(from_unbounded(unbounded, low, high), low * (1 - 1e-15));
      EXPECT_LE(from_unbounded(unbounded, low, high), high * (1 + 1e-15));
    }
    EXPECT_TRUE(std::isfinite(to_unbounded(low, low, high)));
    EXPECT_TRUE(std::isfinite(to_unbounded(high, low, high)));
  }
}

TEST(Calibration, ErrorOnTheUnboundedScaleIsTheDifference) {
  const CalibrationParameter p = {"x", 0.4, 1e-6, 0.05, 1.3, "1", ""};
  const double difference = to_unbounded(0.4 + 5e-7, 0.05, 1.3) - to_unbounded(0.4 - 5e-7, 0.05, 1.3);
  EXPECT_NEAR(unbounded_error(p) / difference, 1, 1e-6);
}

// A prediction proportional to one parameter: the interval is that parameter's own, 1.645 errors to each side.
TEST(PredictionInterval, CarriesAnError) {
  Calibration calibration = default_calibration(cpu());
  for (CalibrationParameter& p : calibration.parameters) p.standard_error = 0;
  CalibrationParameter& p = *calibration.find("step_factor");
  p.standard_error = 0.001;
  const auto predict = [](const Calibration& c) { return 10 * c.value("step_factor", Precision::kFp32); };
  const Interval interval = prediction_interval(calibration, predict, 0);
  // To first order; the curvature of the bounded scale is of relative size 0.001.
  EXPECT_NEAR((interval.high - 10 * p.value) / (10 * 1.6449 * 0.001), 1, 5e-3);
  EXPECT_NEAR((10 * p.value - interval.low) / (10 * 1.6449 * 0.001), 1, 5e-3);
}

TEST(PredictionInterval, AddsTheSpread) {
  Calibration calibration = default_calibration(cpu());
  for (CalibrationParameter& p : calibration.parameters) p.standard_error = 0;
  const Interval interval = prediction_interval(
      calibration, [](const Calibration&) { return 2.0; }, 0.1);
  EXPECT_NEAR(interval.low, 2 * std::exp(-0.164485), 1e-6);
  EXPECT_NEAR(interval.high, 2 * std::exp(0.164485), 1e-6);
}

// Two parameters whose errors cancel in the prediction: with their covariance the interval shrinks to nothing.
TEST(PredictionInterval, UsesTheCovariance) {
  Calibration calibration = default_calibration(cpu());
  for (CalibrationParameter& p : calibration.parameters) p.standard_error = 0;
  calibration.parameters.push_back({"a", 1, 0.01, 0.1, 10, "1", ""});
  calibration.parameters.push_back({"b", 1, 0.01, 0.1, 10, "1", ""});
  const auto product = [](const Calibration& c) { return c.find("a")->value * c.find("b")->value; };
  const double variance = std::pow(unbounded_error(*calibration.find("a")), 2);
  const Interval independent = prediction_interval(calibration, product, 0);
  EXPECT_NEAR(std::log(independent.high), 1.6449 * 0.01 * std::sqrt(2), 1e-5);
  calibration.covariance_names = {"a", "b"};
  calibration.covariance = {variance, -variance, -variance, variance};
  const Interval cancelled = prediction_interval(calibration, product, 0);
  EXPECT_NEAR(cancelled.high, 1, 1e-6);
}

}  // namespace
}  // namespace mmoe
