#include "sim/calibration/fit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sim/calibration/parameters.h"
#include "sim/units/errors.h"
#include "tests/sim/calibration/synthetic_profile.h"

namespace mmoe {
namespace {

Calibration defaults() { return default_calibration(example_job().hardware.spec); }

// A machine that differs from the defaults in everything, by up to a factor of three.
Calibration truth() {
  Calibration calibration = defaults();
  const std::pair<const char*, double> values[] = {{"gemm_efficiency", 0.95},
                                                   {"grouped_gemm_efficiency", 0.8},
                                                   {"gemm_half_rows", 12},
                                                   {"gemm_half_columns", 2},
                                                   {"gemm_half_inner", 6},
                                                   {"attention_efficiency", 0.25},
                                                   {"attention_backward_efficiency", 0.2},
                                                   {"attention_half_head_dim", 40},
                                                   {"attention_half_seq_len", 10},
                                                   {"attention_backward_half_seq_len", 150},
                                                   {"exponential_rate", 3.2e9},
                                                   {"logit_rate", 6e8},
                                                   {"memory_efficiency", 1.0},
                                                   {"update_efficiency", 0.6},
                                                   {"cache_bandwidth_ratio", 4.5},
                                                   {"cache_bytes", 3e7},
                                                   {"overlap", 0.3},
                                                   {"call_overhead", 3e-6},
                                                   {"gemm_call_overhead", 4e-6},
                                                   {"grouped_gemm_call_overhead", 1.2e-5},
                                                   {"step_factor", 1.12},
                                                   {"step_overhead", 2.5e-3},
                                                   {"framework_overhead_bytes", 3e6}};
  for (const auto& [name, value] : values) calibration.find(name)->value = value;
  return calibration;
}

// Each fitted value lies within 4 of its own standard errors of the truth: for 22 independent normal errors a right fit
// fails one run in 700, and the seed is fixed. Parameters that the data do not determine keep their wide prior error.
TEST(Fit, RecoversKnownParameters) {
  const FitResult result = fit_calibration({synthetic_profile(truth(), synthetic_jobs(), 0.02)}, defaults());
  for (const ParameterDefinition& definition : kTimeParameters) {
    const CalibrationParameter& fitted = result.calibration.parameter(definition.name, Precision::kFp32);
    const double expected = truth().value(definition.name, Precision::kFp32);
    const double error =
        to_unbounded(fitted.value, fitted.low, fitted.high) - to_unbounded(expected, fitted.low, fitted.high);
    EXPECT_LT(std::abs(error), 4 * unbounded_error(fitted))
        << definition.name << " " << fitted.value << " +- " << fitted.standard_error << ", truth " << expected;
    EXPECT_GE(fitted.value, fitted.low);
    EXPECT_LE(fitted.value, fitted.high);
    EXPECT_NE(fitted.note.find("records of 4 jobs on synthetic"), std::string::npos) << fitted.note;
  }
  // What matters most is determined well.
  EXPECT_NEAR(result.calibration.value("gemm_efficiency", Precision::kFp32), 0.95, 0.03);
  EXPECT_NEAR(result.calibration.value("step_factor", Precision::kFp32), 1.12, 0.03);
}

// Steps of jobs that were not fitted, with 2 % noise: half-normal mean 1.6 %, and little on top.
TEST(Fit, PredictsUnseenShapes) {
  const FitResult result = fit_calibration({synthetic_profile(truth(), synthetic_jobs(), 0.02)}, defaults());
  EXPECT_EQ(result.held_out, (std::vector<std::string>{"job 2 of 6", "job 5 of 6"}));
  EXPECT_LT(result.after.at("step_seconds").mean_absolute_error_fraction, 0.03);
  EXPECT_LT(result.after.at("operation_seconds").mean_absolute_error_fraction, 0.04);
  EXPECT_GT(result.before.at("step_seconds").mean_absolute_error_fraction, 0.06);
  EXPECT_GE(result.after.at("operation_seconds").interval_coverage, 0.8);
  EXPECT_EQ(result.after.at("step_seconds").count, 12);
  // Later predictions are claimed no better than those of the held-out jobs were: a root mean square is no smaller than
  // the mean of the absolute values (of the logarithms, equal to the fractions to first order).
  EXPECT_GE(result.calibration.step_spread, 0.95 * result.after.at("step_seconds").mean_absolute_error_fraction);
}

TEST(Fit, FindsTheFrameworkOverhead) {
  const FitResult result = fit_calibration({synthetic_profile(truth(), synthetic_jobs(), 0.02)}, defaults());
  EXPECT_NEAR(result.calibration.framework_overhead().value, 3e6, 1);
  EXPECT_NEAR(result.before.at("peak_allocated_bytes").mean_absolute_error_fraction, 3e6 / 1.055e8, 1e-3);
  EXPECT_NEAR(result.after.at("peak_allocated_bytes").mean_absolute_error_fraction, 0, 1e-6);
}

// A few percent of the records five times too slow (a busy machine) move the prediction of a step by less than 3 %.
TEST(Fit, IsRobustAgainstOutliers) {
  ProfiledJobs profile = synthetic_profile(truth(), synthetic_jobs(), 0.02);
  for (size_t i = 0; i < profile.profile.operations.size(); i += 37) {
    Timing& timing = profile.profile.operations[i].seconds;
    timing.median = timing.median * 5;
    timing.p90 = timing.median * 1.1;
  }
  const FitResult result = fit_calibration({profile}, defaults());
  EXPECT_LT(result.after.at("step_seconds").mean_absolute_error_fraction, 0.05);
}

TEST(Fit, KeepsBoundsWhateverTheData) {
  ProfiledJobs profile = synthetic_profile(truth(), synthetic_jobs(), 0.02);
  for (OperationRecord& record : profile.profile.operations) {
    for (Seconds* seconds : {&record.seconds.median, &record.seconds.p10, &record.seconds.p90}) {
      *seconds = *seconds * (record.phase == "forward" ? 1e-4 : 1e4);
    }
  }
  const FitResult result = fit_calibration({profile}, defaults());
  for (const CalibrationParameter& p : result.calibration.parameters) {
    EXPECT_GE(p.value, p.low) << p.name;
    EXPECT_LE(p.value, p.high) << p.name;
    EXPECT_TRUE(std::isfinite(p.standard_error)) << p.name;
  }
}

TEST(Fit, OneJobIsEnough) {
  const FitResult result = fit_calibration({synthetic_profile(truth(), {example_job()}, 0.02)}, defaults());
  EXPECT_LT(result.after.at("operation_seconds").mean_absolute_error_fraction, 0.05);
  EXPECT_LT(result.after.at("step_seconds").mean_absolute_error_fraction, 0.05);
}

TEST(Fit, PrecisionsHaveTheirOwnValues) {
  Calibration machine = truth();
  CalibrationParameter bf16 = machine.parameter("gemm_efficiency", Precision::kBf16);
  bf16.name = "gemm_efficiency.bf16";
  bf16.value = 0.5;
  machine.parameters.push_back(bf16);
  std::vector<Job> jobs = synthetic_jobs();
  for (const size_t i : {1u, 4u}) jobs[i].training.precision = Precision::kBf16;
  FitOptions all;
  all.hold_out = false;
  const FitResult result = fit_calibration({synthetic_profile(machine, jobs, 0.01)}, defaults(), all);
  EXPECT_NEAR(result.calibration.value("gemm_efficiency", Precision::kFp32), 0.95, 0.05);
  EXPECT_NEAR(result.calibration.value("gemm_efficiency", Precision::kBf16), 0.5, 0.05);
  EXPECT_TRUE(result.after.empty());
}

TEST(Fit, TakesOverMeasuredPeaks) {
  ProfiledJobs profile = synthetic_profile(truth(), synthetic_jobs(), 0.02);
  profile.profile.peaks.stream_bandwidth = gb_per_s(44);
  profile.profile.peaks.matmul_rate["fp32"] = FlopsPerSecond{1.9e11};
  const FitResult result = fit_calibration({profile}, defaults());
  EXPECT_EQ(result.calibration.find("stream_bandwidth")->value, 44e9);
  EXPECT_EQ(result.calibration.find("matmul_peak.fp32")->value, 1.9e11);
  // The same rate is now 0.95 * 2.0 / 1.9 of the peak.
  EXPECT_NEAR(result.calibration.value("gemm_efficiency", Precision::kFp32), 1.0, 0.04);
}

TEST(Fit, RefusesWhatCannotBeFitted) {
  EXPECT_THROW(fit_calibration({}, defaults()), ConfigError);
  ProfiledJobs empty = synthetic_profile(truth(), {example_job()}, 0);
  empty.profile.operations.clear();
  empty.profile.steps.clear();
  EXPECT_THROW(fit_calibration({empty}, defaults()), ConfigError);
  ProfiledJobs other = synthetic_profile(truth(), {example_job()}, 0);
  other.profile.machine.device = "h100-sxm-80gb";
  EXPECT_THROW(fit_calibration({synthetic_profile(truth(), {example_job()}, 0), other}, defaults()), ConfigError);
}

TEST(Fit, ResultGoesThroughAFile) {
  const FitResult result = fit_calibration({synthetic_profile(truth(), {example_job()}, 0.02)}, defaults());
  const Calibration read = parse_calibration(to_json(result.calibration), "c.json");
  EXPECT_EQ(to_json(read), to_json(result.calibration));
  const nlohmann::json json = to_json(result);
  EXPECT_TRUE(json.at("before").contains("step_seconds"));
  EXPECT_TRUE(json.at("after").at("step_seconds").contains("mean_absolute_error_fraction"));
}

}  // namespace
}  // namespace mmoe
