#include "sim/elastic/group_law.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/sim/elastic/enumeration.h"

namespace mmoe {
namespace {

GroupLaw law_of(SumBound kind, int64_t sum) {
  const auto counts = std::make_shared<SumCounts>(draw_weights(elastic_config(1, 4)), 5);
  return GroupLaw(counts, {{0, 1, 2, 3}, sum, kind});
}

// The chain from the last layer to the first multiplies up to the conditioned law of the whole group.
TEST(GroupLaw, ChainMultipliesToTheConditionedLaw) {
  for (const SumBound kind : {SumBound::kAtMost, SumBound::kExact}) {
    for (int64_t bound = 0; bound <= 12; ++bound) {
      const GroupLaw law = law_of(kind, bound);
      const BudgetKind budget = kind == SumBound::kExact ? BudgetKind::kExact : BudgetKind::kAtMost;
      double total = 0;
      for (const auto& [k, probability] : enumerate(with_budget(elastic_config(1, 4), budget, {4}, {bound + 4}), 4)) {
        double product = 1;
        int64_t r = 0;
        for (int left = 4; left >= 1; --left) {
          double next[4];
          law.next_draw(left, r, next);
          product *= next[k[static_cast<size_t>(left) - 1] - 1];
          r += k[static_cast<size_t>(left) - 1] - 1;
        }
        EXPECT_NEAR(product, probability, 1e-15);
        total += product;
      }
      EXPECT_NEAR(total, 1, 1e-13);
    }
  }
}

TEST(GroupLaw, RestIsTheLawOfWhatIsLeft) {
  const GroupLaw law = law_of(SumBound::kAtMost, 7);
  const std::vector<double> rest = law.rest(2, 4);  // two layers of 0..3 with a sum of at most 3: 1, 2, 3, 4 ways
  ASSERT_EQ(rest.size(), 4u);
  for (size_t sum = 0; sum < 4; ++sum) EXPECT_NEAR(rest[sum], (static_cast<double>(sum) + 1) / 10, 1e-15);
  const std::vector<double> exact = law_of(SumBound::kExact, 7).rest(2, 4);
  EXPECT_EQ(exact.back(), 1);
  EXPECT_EQ(std::accumulate(exact.begin(), exact.end(), 0.0), 1);
}

TEST(GroupLaw, TheLargestBoundConditionsNothing) {
  EXPECT_FALSE(law_of(SumBound::kAtMost, 12).is_conditioned());
  EXPECT_EQ(law_of(SumBound::kAtMost, 12).log_probability(), 0);
  EXPECT_TRUE(law_of(SumBound::kExact, 12).is_conditioned());
}

}  // namespace
}  // namespace mmoe
