#include "sim/validation/validate.h"

#include <gtest/gtest.h>

#include "sim/formulas/model_flops.h"
#include "tests/sim/validation/published_rows.h"

namespace mmoe {
namespace {

TEST(Validate, EveryRowIsPredictedOrListed) {
  auto unknown = nemo_row();
  unknown["id"] = "r2";
  unknown["layers"] = "";
  const CsvTable table = CsvTable::parse(published_table({nemo_row(), unknown}), "t.csv");
  const ValidationReport report = validate_table(table);
  ASSERT_EQ(report.rows.size(), 1);
  EXPECT_EQ(report.rows[0].quantity, "step_seconds");
  EXPECT_GT(report.rows[0].predicted, 0);
  EXPECT_LT(report.rows[0].low, report.rows[0].predicted);
  EXPECT_GT(report.rows[0].high, report.rows[0].predicted);
  ASSERT_EQ(report.unmodelled.size(), 1);
  EXPECT_EQ(report.unmodelled[0].id, "r2");
  EXPECT_EQ(report.coverage(), 0.5);
}

TEST(Validate, RawAndFittedSpeedsDiffer) {
  const CsvTable table = CsvTable::parse(published_table({nemo_row()}), "t.csv");
  EXPECT_NE(validate_table(table).rows[0].predicted, validate_table(table, "", Speed::kRaw).rows[0].predicted);
}

// The whole attention matrix has s^2 pairs, its causal half s (s + 1) / 2; recomputation runs every layer once more.
TEST(Validate, FlopsConventions) {
  auto row = nemo_row();
  row["recompute"] = "full";
  const Job job = measured_run(CsvTable::parse(published_table({row}), "t.csv").rows()[0]).run->job;
  const double s = 8192, batch = 128;
  const double causal = reported_flops(job, FlopsConvention::kCausalAttention).value;
  const double whole = reported_flops(job, FlopsConvention::kWholeAttention).value;
  const double again = reported_flops(job, FlopsConvention::kWithRecomputation).value;
  const double pairs = batch * 64 * (s * s - s * (s + 1) / 2);
  EXPECT_NEAR(whole - causal, 3 * 80 * 2 * 2 * pairs * 128, 1e-9 * whole);
  EXPECT_NEAR(again, whole * 4 / 3 - head_flops(job.model, s * batch).value, 1e-9 * whole);
}

}  // namespace
}  // namespace mmoe
