#include "sim/elastic/draw_sum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

using Values = std::map<double, double>;  // value -> probability

Values added(const Values& a, const Values& b) {
  Values sum;
  for (const auto& [x, p] : a) {
    for (const auto& [y, q] : b) sum[x + y] += p * q;
  }
  return sum;
}

// Of one draw that keeps the bound, straight from the definition.
Values enumerated(const ElasticConfig& config, const LayerCosts& costs) {
  Values values;
  for (const auto& [k, probability] : enumerate(config, static_cast<int>(costs.size()))) {
    double sum = 0;
    for (size_t l = 0; l < costs.size(); ++l) sum += costs[l][static_cast<size_t>(k[l] - config.k_min)];
    values[sum] += probability;
  }
  return values;
}

double tail(const Values& values, double x) {
  double sum = 0;
  for (const auto& [value, p] : values) sum += value > x ? p : 0;
  return sum;
}

Values in_bytes(const DrawSum& sum, BudgetKind kind, int64_t bound) {
  const DiscreteLaw cells = sum.cells(kind, bound);
  Values values;
  for (int64_t cell = cells.min(); cell <= cells.max(); ++cell) {
    values[sum.origin() + sum.unit() * static_cast<double>(cell)] += cells.probability(cell);
  }
  return values;
}

// Whole costs of no common step are multiples of 1; two draws of one kind and one of another, each under the bound.
TEST(DrawSum, IsExactlyTheEnumeratedLawOfWholeCosts) {
  const ElasticConfig free = elastic_config(1, 3, Granularity::kLayer, Sampling::kCapacityWeighted, 1.5);
  const LayerCosts own = {{0, 5, 7}, {2, 2, 9}, {0, 1, 3}}, other = {{0, 3, 4}, {1, 1, 2}, {0, 0, 0}};
  const DrawSum sum(free, {{own, 1}, {other, 2}}, kMostCells);
  EXPECT_EQ(sum.rounding(), 0);
  for (const BudgetKind kind : {BudgetKind::kAtMost, BudgetKind::kExact}) {
    for (int64_t bound = 3; bound <= 9; ++bound) {
      const ElasticConfig config = with_budget(free, kind, {3}, {bound});
      const Values two = added(enumerated(config, other), enumerated(config, other));
      const Values expected = added(enumerated(config, own), two);
      const Values found = in_bytes(sum, kind, bound);
      // Sums of some 200 products, each rounded to 2^-53: 1e-13 in all.
      for (double x = -0.5; x < 30; ++x) EXPECT_NEAR(tail(found, x), tail(expected, x), 1e-13) << bound << ", " << x;
    }
  }
}

TEST(DrawSum, IsTheConvolutionOfManyLayersAndDraws) {
  const ElasticConfig config = elastic_config(1, 8);
  std::vector<double> straight;
  for (int k = 0; k < 8; ++k) straight.push_back(5e7 * k);
  const DrawSum sum(config, {{LayerCosts(61, straight), 3}, {LayerCosts(61, std::vector<double>(8, 0)), 5}},
                    kMostCells);
  EXPECT_EQ(sum.rounding(), 0);
  EXPECT_DOUBLE_EQ(sum.unit(), 5e7);
  const DiscreteLaw cells = sum.cells(BudgetKind::kAtMost, 61 * 8);
  const DiscreteLaw expected = DiscreteLaw(0, std::vector<double>(8, 1.0)).sum_of(3 * 61);
  for (int64_t v = 0; v <= expected.max(); ++v) EXPECT_NEAR(cells.probability(v), expected.probability(v), 1e-12) << v;
  // Under a bound: the sum of three draws that each are at most that much.
  const DiscreteLaw one = DiscreteLaw(0, std::vector<double>(8, 1.0)).sum_of(61);
  const auto& p = one.probabilities();
  const DiscreteLaw bounded = DiscreteLaw(0, {p.begin(), p.begin() + 201}).sum_of(3);
  const DiscreteLaw found = sum.cells(BudgetKind::kAtMost, 61 + 200);
  for (int64_t v = 0; v <= bounded.max(); ++v) EXPECT_NEAR(found.probability(v), bounded.probability(v), 1e-12) << v;
}

// Costs of no common unit: never below the true sum, and above it by no more than the rounding.
TEST(DrawSum, BoundsWhatHasNoUnit) {
  const ElasticConfig config = elastic_config(1, 4);
  LayerCosts costs(3, {0, 1, std::sqrt(2.0), M_PI / 2});
  costs[1] = {0.3, std::sqrt(3.0), 2, M_E};
  double coarser = INFINITY;
  for (const int64_t max_cells : {200, 1024}) {
    const DrawSum sum(config, {{costs, 2}}, max_cells);
    EXPECT_GT(sum.rounding(), 0);
    EXPECT_LE(sum.rounding(), std::min(6 * sum.unit(), coarser));  // half a cell up or down in each of six layers
    coarser = sum.rounding();
    const Values one = enumerated(with_budget(config, BudgetKind::kAtMost, {3}, {9}), costs), exact = added(one, one);
    const Values found = in_bytes(sum, BudgetKind::kAtMost, 9);
    EXPECT_LE(sum.law(BudgetKind::kAtMost, 12).largest, 2 * (2 * M_PI / 2 + M_E) * (1 + 1e-15));
    for (double x = 0; x < 12; x += 0.01) {
      EXPECT_GE(tail(found, x), tail(exact, x) - 1e-13) << x;
      EXPECT_LE(tail(found, x + sum.rounding() + 1e-9), tail(exact, x) + 1e-13) << x;
    }
  }
}

// Too many draws for exact cells: the mean is kept, the variance too large by what is stated, and a high quantile off
// by no more than that (of a sum of 700 draws, close to normal, whose quantile at 1e-6 is 4.75 deviations up) and a
// cell.
TEST(DrawSum, BringsManyDrawsToAGrid) {
  const ElasticConfig config = elastic_config(1, 6);
  std::vector<double> own, other;
  for (int k = 0; k < 6; ++k) {
    own.push_back(9 * k);
    other.push_back(k);
  }
  const std::vector<DrawCosts> parts = {{LayerCosts(4, own), 8}, {LayerCosts(4, other), 700}};
  const DrawSum exact(config, parts, 100000), grid(config, parts, 256);
  ASSERT_TRUE(exact.is_in_cells());
  ASSERT_FALSE(grid.is_in_cells());
  for (const int64_t bound : {24, 16}) {
    const GridLaw a = exact.law(BudgetKind::kAtMost, bound), b = grid.law(BudgetKind::kAtMost, bound);
    EXPECT_NEAR(b.mean(), a.mean(), 1e-9 * a.mean());
    EXPECT_NEAR(b.std(), a.std(), 1e-6 * a.std());
    EXPECT_EQ(b.largest, a.largest);
    const double inflated = std::sqrt(a.std() * a.std() + b.added_variance);
    for (const double q : {0.5, 0.99, 1 - 1e-6}) {
      EXPECT_NEAR(b.quantile(q), a.quantile(q), b.spacing + 4.75 * (inflated - a.std())) << q;
    }
  }
}

TEST(MostAdded, IsTheHighestSpreadOfASum) {
  const std::vector<double> concave = {0, 4, 6, 7}, convex = {0, 1, 3, 7};
  EXPECT_DOUBLE_EQ(most_added(concave, 4, 0), 0);
  EXPECT_DOUBLE_EQ(most_added(concave, 4, 4), 16);   // one each
  EXPECT_DOUBLE_EQ(most_added(concave, 4, 6), 20);   // 1 1 2 2
  EXPECT_DOUBLE_EQ(most_added(concave, 4, 12), 28);  // all
  EXPECT_DOUBLE_EQ(most_added(convex, 4, 6), 14);    // 3 3 0 0
}

}  // namespace
}  // namespace mmoe
