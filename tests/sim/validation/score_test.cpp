#include "sim/validation/score.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(Score, WorkedByHand) {
  const ValidationReport report{{{"a", "step_seconds", 1, 1.1, 0.9, 1.2, "s"},
                                 {"b", "step_seconds", 2, 1.8, 1.9, 2.2, "s"},
                                 {"c", "step_seconds", 4, 4, 3, 3.5, "t"}},
                                {{"d", "no sizes"}},
                                4};
  const QuantityScore all = summary(report).at("step_seconds");
  EXPECT_EQ(all.count, 3);
  EXPECT_NEAR(all.mean_absolute_error_fraction, 0.2 / 3, 1e-12);
  EXPECT_NEAR(all.median_absolute_error_fraction, 0.1, 1e-12);
  EXPECT_NEAR(all.max_absolute_error_fraction, 0.1, 1e-12);
  EXPECT_NEAR(all.bias_fraction, 0, 1e-12);
  EXPECT_NEAR(all.interval_coverage, 2.0 / 3, 1e-12);
  EXPECT_EQ(report.coverage(), 0.75);
  EXPECT_EQ(summary_by_stratum(report).at("t").at("step_seconds").count, 1);
}

// Of four runs that fit three are told right, of two that do not one: (3/4 + 1/2) / 2.
TEST(Score, BalancedAccuracyOfFits) {
  ValidationReport report;
  for (const auto& [measured, predicted] :
       std::vector<std::pair<double, double>>{{1, .9}, {1, .6}, {1, .5}, {1, .2}, {0, .1}, {0, .7}}) {
    report.rows.push_back({"r", kFitsQuantity, measured, predicted, 0, 1, "s"});
  }
  EXPECT_NEAR(summary(report).at(kFitsQuantity).balanced_accuracy, 0.625, 1e-12);
  EXPECT_TRUE(summary(report).at(kFitsQuantity).both_outcomes);
  EXPECT_EQ(summary(report).at(kFitsQuantity).count_of_hard, 0);
  // The hard cases alone: one that fits is told right, one that does not is not.
  for (const std::size_t hard : {1, 5}) report.rows[hard].peak_bytes = 80 * 1073741824.0;
  EXPECT_EQ(summary(report).at(kFitsQuantity).count_of_hard, 2);
  EXPECT_NEAR(summary(report).at(kFitsQuantity).balanced_accuracy_of_hard, 0.5, 1e-12);
  EXPECT_NEAR(summary(report).at(kFitsQuantity).balanced_accuracy, 0.625, 1e-12);
}

TEST(Score, SaysWhereOnlyOneOutcomeOccurs) {
  ValidationReport report;
  for (const double predicted : {.9, .2}) report.rows.push_back({"r", kFitsQuantity, 1, predicted, 0, 1, "s"});
  EXPECT_EQ(summary(report).at(kFitsQuantity).balanced_accuracy, 0.5);
  EXPECT_FALSE(summary(report).at(kFitsQuantity).both_outcomes);
}

TEST(Score, JsonHasTheKeysOfTheContract) {
  const ValidationReport report{{{"a", "mfu", 0.5, 0.4, 0.3, 0.6, "s"}}, {{"b", "why"}}, 2};
  const nlohmann::json json = to_json(report);
  for (const char* key : {"rows", "unmodelled", "coverage", "summary", "summary_by_stratum"})
    EXPECT_TRUE(json.contains(key));
  EXPECT_NEAR(json["rows"][0]["error_fraction"].get<double>(), -0.2, 1e-12);
  EXPECT_EQ(json["unmodelled"][0]["reason"], "why");
  EXPECT_EQ(json["summary_by_stratum"]["s"]["mfu"]["count"], 1);
}

}  // namespace
}  // namespace mmoe
