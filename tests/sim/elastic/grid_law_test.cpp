#include "sim/elastic/grid_law.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mmoe {
namespace {

TEST(GridLaw, OnGridKeepsMeanAndStatesItsVariance) {
  const ValueLaw law({{1, 0.25}, {1.37, 0.5}, {4, 0.25}});
  const GridLaw grid = on_grid(law, 10);
  EXPECT_NEAR(grid.mean(), law.mean(), 1e-14);
  EXPECT_NEAR(grid.std(), law.std(), 1e-14);
  EXPECT_GT(grid.added_variance, 0);
  EXPECT_NEAR(grid.spacing, 0.3, 1e-15);
  EXPECT_NEAR(grid.cdf(1), 0.25, 1e-15);
  EXPECT_EQ(grid.summary().max, 4);
}

TEST(GridLaw, OneValueIsCertain) {
  const GridLaw grid = on_grid(ValueLaw({{2.5, 1.0}}), 10);
  EXPECT_EQ(grid.mean(), 2.5);
  EXPECT_EQ(grid.std(), 0);
  EXPECT_EQ(grid.quantile(0.99), 2.5);
}

// Coins on an exact grid: the sum's law is binomial until cells must be merged.
TEST(GridLaw, SumsAreConvolutions) {
  GridLaw coin = on_grid(ValueLaw({{0, 0.5}, {1, 0.5}}), 1);
  const GridLaw ten = coin.sum_of(10);
  EXPECT_EQ(ten.spacing, 1);
  double binomial = 1, below = 0;
  for (int heads = 0; heads <= 10; ++heads) {
    below += binomial / 1024;
    EXPECT_NEAR(ten.cdf(heads), below, 1e-15);
    binomial *= (10.0 - heads) / (heads + 1.0);
  }
  EXPECT_EQ(ten.summary().max, 10);
}

TEST(GridLaw, CoarseSumsKeepMomentsAndStateTheirError) {
  const GridLaw coin = on_grid(ValueLaw({{0, 0.5}, {1, 0.5}}), 1);
  const GridLaw many = coin.sum_of(1000, 32), exact = coin.sum_of(1000, 4096);
  EXPECT_LE(many.cells.probabilities().size(), 32u);
  EXPECT_NEAR(many.mean(), 500, 1e-9);
  EXPECT_NEAR(many.std(), std::sqrt(250), 1e-9);
  EXPECT_GT(many.added_variance, 0);
  EXPECT_EQ(exact.displacement, 0);  // nothing was merged
  for (const double q : {0.01, 0.5, 0.99}) EXPECT_NEAR(many.quantile(q), exact.quantile(q), many.spacing + 1);
  EXPECT_EQ(many.largest, 1000);
}

TEST(GridLaw, ScalesAndAdds) {
  const GridLaw law = on_grid(ValueLaw({{1, 0.25}, {1.37, 0.5}, {4, 0.25}}), 10);
  EXPECT_NEAR(law.scaled(3).std(), 3 * law.std(), 1e-14);
  EXPECT_NEAR(law.scaled(3).quantile(1), 12, 1e-14);
  const GridLaw sum = law.plus_independent(law);
  EXPECT_NEAR(sum.mean(), 2 * law.mean(), 1e-14);
  EXPECT_NEAR(sum.std(), std::sqrt(2) * law.std(), 1e-14);
}

// Of other spacings: means add, variances but for what is stated, and ends.
TEST(GridLaw, SumsOfDifferentSpacings) {
  GridLaw fine{5, 0.7, DiscreteLaw(2, {1, 2, 3, 2}), 5 + 1.4, 5 + 3.5, 0, 0};
  GridLaw coarse{-1, 2, DiscreteLaw(0, {3, 1, 1}), -1, 3, 0, 0};
  const GridLaw sum = sum_of_independent({fine, coarse});
  EXPECT_EQ(sum.spacing, 2);
  EXPECT_NEAR(sum.mean(), fine.mean() + coarse.mean(), 1e-12);
  EXPECT_NEAR(sum.std() * sum.std(), fine.std() * fine.std() + coarse.std() * coarse.std(), 1e-12);
  EXPECT_GT(sum.added_variance, 0);
  EXPECT_NEAR(sum.largest, 5 + 3.5 + 3, 1e-12);
  const GridLaw same = sum_of_independent({coarse, coarse});
  EXPECT_EQ(same.displacement, 0);
  EXPECT_NEAR(same.cells.probability(4), 1.0 / 25, 1e-15);
}

}  // namespace
}  // namespace mmoe
