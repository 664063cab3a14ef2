#include "sim/validation/fit_framework.h"

#include <gtest/gtest.h>

#include "sim/cluster/step_time.h"
#include "sim/config/device_file.h"
#include "sim/units/errors.h"
#include "tests/sim/validation/published_rows.h"

namespace mmoe {
namespace {

FrameworkFitOptions options(const std::vector<std::string>& parameters) {
  FrameworkFitOptions chosen;
  chosen.parameters = parameters;
  chosen.num_folds = 3;
  return chosen;
}

// Twelve rows of three models whose times are those of a framework with this efficiency.
CsvTable made_table(double gemm_efficiency, const TimeParameters& time, const NetworkParameters& network) {
  std::vector<std::map<std::string, std::string>> rows;
  for (const char* hidden : {"4096", "6144", "8192"}) {
    for (const char* tensor : {"1", "2", "4", "8"}) {
      auto row = nemo_row();
      row["id"] = std::string(hidden) + tensor;
      row["hidden"] = hidden;
      row["tp"] = tensor;
      const Job job = measured_run(CsvTable::parse(published_table({row}), "t.csv").rows()[0]).run->job;
      Framework framework = load_framework("nemo", job.hardware.spec, "test");
      framework.time = time;
      framework.network = network;
      framework.time.gemm_efficiency = gemm_efficiency;
      row["iter_time_s"] = std::to_string(cluster_step_time(job, framework, 0).step());
      rows.push_back(row);
    }
  }
  return CsvTable::parse(published_table(rows), "t.csv");
}

TEST(FitFramework, FindsTheValueThatMadeTheRows) {
  const CsvTable table = made_table(0.6, TimeParameters(), NetworkParameters());
  const FrameworkFit fit = fit_framework({&table}, options({"gemm_efficiency"}));
  EXPECT_EQ(fit.num_rows, 12);
  // The prior, as wide as a fourth of 0.2 to 1, draws twelve rows known to 5 % back by far less than a hundredth.
  EXPECT_NEAR(fit.parameters[0].value, 0.6, 0.005);
  EXPECT_NEAR(fit.parameters[0].prior_width, 0.2, 1e-9);
  EXPECT_LE(fit.parameters[0].fold_low, fit.parameters[0].value);
  EXPECT_GE(fit.parameters[0].fold_high, fit.parameters[0].value);
  EXPECT_LT(fit.held_out.mean_absolute_error_fraction, 0.01);
  EXPECT_GT(fit.before.mean_absolute_error_fraction, 0.05);
  ASSERT_EQ(fit.rows.size(), 12U);
  int64_t in_strata = 0;
  for (const auto& [stratum, score] : fit.held_out_by_stratum) in_strata += score.count;
  EXPECT_EQ(in_strata, 12);
}

// Values of a framework's own file may have been fitted to the rows: unless told, neither the start nor a number that
// is not fitted comes from there.
TEST(FitFramework, StartsAtTheDefaultsUnlessTold) {
  const CsvTable table = CsvTable::parse(published_table({nemo_row()}), "t.csv");
  const double own = load_framework("nemo", load_device("h100-sxm-80gb", "test"), "test").time.attention_efficiency;
  ASSERT_NE(own, TimeParameters().attention_efficiency);
  FrameworkFitOptions chosen = options({"attention_efficiency"});
  EXPECT_EQ(fit_framework({&table}, chosen).parameters[0].initial, TimeParameters().attention_efficiency);
  chosen.start = "own";
  EXPECT_EQ(fit_framework({&table}, chosen).parameters[0].initial, own);
  chosen.start = "llm_foundry";
  EXPECT_EQ(fit_framework({&table}, chosen).parameters[0].initial,
            load_framework("llm_foundry", load_device("h100-sxm-80gb", "test"), "test").time.attention_efficiency);
  chosen.start = "llm_foundri";
  EXPECT_THROW(fit_framework({&table}, chosen), ConfigError);
}

// A number at the edge of its range, as a half size of 0 is, is not held there.
TEST(FitFramework, LeavesTheEdgeOfARange) {
  TimeParameters time;
  time.gemm_half_rows = 400;
  const CsvTable table = made_table(time.gemm_efficiency, time, NetworkParameters());
  const FrameworkFit fit = fit_framework({&table}, options({"gemm_half_rows"}));
  EXPECT_NEAR(fit.parameters[0].value, 400, 20);
}

TEST(FitFramework, UnknownParametersAreNamed) {
  const CsvTable table = CsvTable::parse(published_table({nemo_row()}), "t.csv");
  EXPECT_THROW(fit_framework({&table}, options({"gem_efficiency"})), ConfigError);
  EXPECT_THROW(fit_framework({&table}, options({"gemm_efficiency@nanotron"})), ConfigError);
  EXPECT_THROW(fit_framework({&table}, options({"gemm_efficiency@nanotron+gb200"})), ConfigError);
  EXPECT_NO_THROW(fit_framework({&table}, options({"gemm_efficiency@nanotron+h100-sxm-80gb"})));
}

}  // namespace
}  // namespace mmoe
