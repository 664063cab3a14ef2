#include "sim/elastic/value_law.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace mmoe {
namespace {

const ValueLaw& law() {
  static const ValueLaw kLaw({{3.0, 2.0}, {1.5, 1.0}, {7.0, 1.0}, {3.0, 1.0}, {9.0, 0.0}});
  return kLaw;
}

TEST(ValueLaw, MergesAndNormalises) {
  EXPECT_EQ(law().values(), (std::vector<double>{1.5, 3, 7, 9}));
  EXPECT_EQ(law().probabilities(), (std::vector<double>{0.2, 0.6, 0.2, 0}));
  EXPECT_DOUBLE_EQ(law().mean(), 3.5);
  EXPECT_DOUBLE_EQ(law().std(), std::sqrt(0.2 * 4 + 0.6 * 0.25 + 0.2 * 12.25));
  EXPECT_EQ(law().max(), 9);
}

TEST(ValueLaw, QuantilesAndCdfAgree) {
  EXPECT_EQ(law().quantile(0), 1.5);
  EXPECT_EQ(law().quantile(0.2), 1.5);
  EXPECT_EQ(law().quantile(0.21), 3);
  EXPECT_EQ(law().quantile(0.8), 3);
  EXPECT_EQ(law().quantile(0.99), 7);
  EXPECT_EQ(law().quantile(1), 7);
  EXPECT_DOUBLE_EQ(law().cdf(2.9), 0.2);
  EXPECT_DOUBLE_EQ(law().cdf(3), 0.8);
  EXPECT_EQ(law().cdf(1), 0);
  EXPECT_EQ(law().tail(9), 0);
}

TEST(ValueLaw, MaximumIsThePowerOfTheCdf) {
  const ValueLaw maximum = law().maximum(5);
  EXPECT_NEAR(maximum.cdf(1.5), std::pow(0.2, 5), 1e-15);
  EXPECT_NEAR(maximum.cdf(3), std::pow(0.8, 5), 1e-15);
  EXPECT_NEAR(law().cdf_of_maximum(3, 5), std::pow(0.8, 5), 1e-15);
  EXPECT_EQ(law().quantile_of_maximum(0.33, 5), 7);  // 0.8^5 = 0.32768
  EXPECT_EQ(law().quantile_of_maximum(0.32, 5), 3);
}

TEST(ValueLaw, KeepsTinyTails) {
  const ValueLaw rare({{1, 1.0}, {2, 1e-20}});
  EXPECT_NEAR(rare.maximum(1e20).cdf(1) / std::exp(-1), 1, 1e-12);
  EXPECT_EQ(rare.quantile_of_maximum(0.99, 1e17), 1);
  EXPECT_EQ(rare.quantile_of_maximum(0.99, 1e19), 2);
}

TEST(ValueLaw, SummaryPrintsTheContractsKeys) {
  const nlohmann::json json = law().scaled(2, 1).summary();
  EXPECT_EQ(json.size(), 5u);
  EXPECT_DOUBLE_EQ(json["mean"], 8);
  EXPECT_DOUBLE_EQ(json["std"], 2 * law().std());
  EXPECT_EQ(json["p50"], 7);
  EXPECT_EQ(json["p99"], 15);
  EXPECT_EQ(json["max"], 19);
}

}  // namespace
}  // namespace mmoe
