#include "sim/elastic/sum_counts.h"

#include <gtest/gtest.h>

#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

double value(ScaledCount count) { return ratio(count, ScaledCount::of(1)); }

TEST(SumCounts, CountsDice) {
  const SumCounts counts(draw_weights(elastic_config(1, 6)), 3);
  EXPECT_EQ(value(counts.count(SumBound::kExact, 2, 5)), 6);    // seven with two dice
  EXPECT_EQ(value(counts.count(SumBound::kExact, 3, 7)), 27);   // ten with three dice
  EXPECT_EQ(value(counts.count(SumBound::kAtMost, 3, 2)), 10);  // at most five
  EXPECT_EQ(value(counts.count(SumBound::kAtMost, 3, 99)), 216);
  EXPECT_TRUE(counts.count(SumBound::kExact, 3, 16).is_zero());
  EXPECT_TRUE(counts.count(SumBound::kAtMost, 3, -1).is_zero());
  EXPECT_EQ(value(counts.count(SumBound::kExact, 0, 0)), 1);
  ScaledCount weights[6];
  counts.choice_weights(SumBound::kExact, 2, 7, weights);  // nine with two dice: 3..6 first
  for (int j = 0; j < 6; ++j) EXPECT_EQ(value(weights[j]), j >= 2 ? 1 : 0) << j;
}

TEST(GroupBounds, TurnsSumsIntoSumsAboveTheLeast) {
  const ElasticConfig config = with_budget(elastic_config(2, 5), BudgetKind::kAtMost, {3, 4}, {9, 99});
  const std::vector<GroupBound> bounds = group_bounds(config, 7, 1);
  ASSERT_EQ(bounds.size(), 2u);
  EXPECT_EQ(bounds[0].sum, 3);
  EXPECT_EQ(bounds[1].sum, 12);  // the largest there is
  EXPECT_EQ(bounds[1].layers, (std::vector<int>{3, 4, 5, 6}));
}

TEST(GroupBounds, RefusesWhatCannotBeKept) {
  const auto bounds = [](BudgetKind kind, std::vector<int64_t> groups, std::vector<int64_t> sum_k) {
    return group_bounds(with_budget(elastic_config(2, 5), kind, std::move(groups), std::move(sum_k)), 7, 1);
  };
  EXPECT_THROW(bounds(BudgetKind::kAtMost, {3, 4}, {5, 9}), std::logic_error);
  EXPECT_THROW(bounds(BudgetKind::kExact, {3, 4}, {16, 9}), std::logic_error);
  EXPECT_THROW(bounds(BudgetKind::kAtMost, {3, 3}, {9, 9}), std::logic_error);
  EXPECT_THROW(bounds(BudgetKind::kAtMost, {3, 4}, {9}), std::logic_error);
}

TEST(SharedDrawWeights, KeepsWhatEveryGroupAllows) {
  const ElasticConfig config = with_budget(elastic_config(1, 6), BudgetKind::kAtMost, {2, 3}, {9, 14});
  const auto weights = shared_draw_weights(draw_weights(config), group_bounds(config, 5, 1));
  for (int j = 0; j < 6; ++j) EXPECT_EQ(weights[static_cast<size_t>(j)].is_zero(), j >= 4) << j;
}

}  // namespace
}  // namespace mmoe
