#include "sim/validation/fit_framework.h"

#include <gtest/gtest.h>

#include "sim/cluster/step_time.h"
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

// Rows whose times a known parameter made: the fit finds it.
TEST(FitFramework, FindsTheValueThatMadeTheRows) {
  std::vector<std::map<std::string, std::string>> rows;
  for (const char* hidden : {"4096", "6144", "8192"}) {
    for (const char* tensor : {"1", "2", "4", "8"}) {
      auto row = nemo_row();
      row["id"] = std::string(hidden) + tensor;
      row["hidden"] = hidden;
      row["tp"] = tensor;
      const Job job = measured_run(CsvTable::parse(published_table({row}), "t.csv").rows()[0]).run->job;
      Framework framework = load_framework("nemo", job.hardware.spec, "test");
      framework.time.gemm_efficiency = 0.6;
      row["iter_time_s"] = std::to_string(cluster_step_time(job, framework, 0).step());
      rows.push_back(row);
    }
  }
  const CsvTable table = CsvTable::parse(published_table(rows), "t.csv");
  const FrameworkFit fit = fit_framework({&table}, options({"gemm_efficiency"}));
  EXPECT_EQ(fit.num_rows, 12);
  // The prior draws it back a little: twelve rows at a loss scale of 5 % against one prior of width 0.5.
  EXPECT_NEAR(fit.parameters[0].value, 0.6, 0.005);
  EXPECT_LT(fit.held_out.mean_absolute_error_fraction, 0.01);
  EXPECT_GT(fit.before.mean_absolute_error_fraction, 0.05);
}

TEST(FitFramework, UnknownParametersAreNamed) {
  const CsvTable table = CsvTable::parse(published_table({nemo_row()}), "t.csv");
  EXPECT_THROW(fit_framework({&table}, options({"gem_efficiency"})), ConfigError);
  EXPECT_THROW(fit_framework({&table}, options({"gemm_efficiency@nanotron"})), ConfigError);
}

}  // namespace
}  // namespace mmoe
