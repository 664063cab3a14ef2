#include "sim/elastic/sum_counts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

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

// Whole numbers of any size, in words of 32 bits, the lowest first.
using BigInteger = std::vector<uint32_t>;

void add(BigInteger& to, const BigInteger& other, bool subtract) {
  int64_t carry = 0;
  for (size_t i = 0; i < to.size(); ++i) {
    const int64_t sum = int64_t{to[i]} + (subtract ? -int64_t{other[i]} : int64_t{other[i]}) + carry;
    to[i] = static_cast<uint32_t>(sum);
    carry = sum >> 32;
  }
}

double log_of(const BigInteger& value) {
  size_t top = value.size() - 1;
  while (top > 0 && value[top] == 0) --top;
  long double leading = 0;
  for (size_t i = 0; i < 4 && i <= top; ++i)
    leading = leading + std::ldexp(static_cast<long double>(value[top - i]), -32 * static_cast<int>(i));
  return static_cast<double>(std::log(leading) + 32.0L * static_cast<long double>(top) * std::log(2.0L));
}

// 128 layers with k in 1..64: counts up to 64^128 = 2^768, each against exact arithmetic.
TEST(SumCounts, AgreeWithBigIntegers) {
  constexpr int kLayers = 128;
  constexpr size_t kChoices = 64, kSums = kLayers * (kChoices - 1) + 1, kWords = 25;
  const SumCounts counts(std::vector<ScaledCount>(kChoices, ScaledCount::of(1)), kLayers);
  std::vector<BigInteger> exact(kSums, BigInteger(kWords, 0));
  exact[0][0] = 1;
  // One layer more: the sum over the last 64 counts, by adding the newest and dropping the oldest.
  for (int layers = 1; layers <= kLayers; ++layers) {
    std::vector<BigInteger> next(kSums, BigInteger(kWords, 0));
    for (size_t sum = 0; sum < kSums; ++sum) {
      if (sum > 0) next[sum] = next[sum - 1];
      add(next[sum], exact[sum], false);
      if (sum >= kChoices) add(next[sum], exact[sum - kChoices], true);
    }
    exact = std::move(next);
  }
  BigInteger at_most(kWords, 0);
  // Each layer costs 64 sums and products of at most 2^-62; log to rounding of a double at up to 532.
  const double tolerance = kLayers * 2.0 * kChoices * 0x1p-62 + 4 * 532 * 0x1p-53;
  for (size_t sum = 0; sum < kSums; ++sum) {
    add(at_most, exact[sum], false);
    ASSERT_NEAR(log(counts.count(SumBound::kExact, kLayers, static_cast<int64_t>(sum))), log_of(exact[sum]), tolerance);
    if (sum % 7 == 0) {
      // The running sum adds one rounding a term.
      ASSERT_NEAR(log(counts.count(SumBound::kAtMost, kLayers, static_cast<int64_t>(sum))), log_of(at_most),
                  tolerance + kSums * 0x1p-62);
    }
  }
}

}  // namespace
}  // namespace mmoe
