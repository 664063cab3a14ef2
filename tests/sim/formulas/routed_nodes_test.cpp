#include "sim/formulas/routed_nodes.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>

namespace mmoe {
namespace {

ModelConfig grouped(int64_t groups, int64_t limit) {
  ModelConfig model;
  model.num_experts = 256;
  model.top_k = 8;
  model.n_group = groups;
  model.topk_group = limit;
  return model;
}

// All sets of `limit` groups, and all k experts' groups drawn from each, counted one by one: the mean number of nodes.
double counted(int groups, int limit, int nodes, int k) {
  double nodes_reached = 0, ways = 0;
  for (uint32_t set = 0; set < 1u << groups; ++set) {
    if (std::popcount(set) != limit) continue;
    int64_t draws = 1;
    for (int i = 0; i < k; ++i) draws *= groups;
    for (int64_t draw = 0; draw < draws; ++draw) {
      uint32_t reached = 0;
      bool allowed = true;
      int64_t rest = draw;
      for (int i = 0; i < k; ++i, rest /= groups) {
        const auto group = static_cast<int>(rest % groups);
        allowed &= (set >> group & 1) != 0;
        reached |= 1u << group * nodes / groups;
      }
      if (!allowed) continue;
      nodes_reached += std::popcount(reached);
      ++ways;
    }
  }
  return nodes_reached / ways;
}

TEST(RoutedNodes, EqualTheCountOverAllChoices) {
  for (const int k : {1, 3}) {
    for (const int limit : {1, 2, 3, 5}) {
      for (const int nodes : {1, 2, 3, 6}) {
        EXPECT_NEAR(expected_nodes(grouped(6, limit), nodes, k), counted(6, limit, nodes, k), 1e-12)
            << "k " << k << ", " << limit << " of 6 groups, " << nodes << " nodes";
      }
    }
  }
}

TEST(RoutedNodes, WithoutALimitAreThoseOfFreeChoice) {
  for (const double nodes : {1.0, 2.0, 8.0, 3.5}) {
    EXPECT_DOUBLE_EQ(expected_nodes(grouped(8, 8), nodes, 8), nodes * (1 - std::pow(1 - 1 / nodes, 8)));
  }
}

// DeepSeek-V3: 8 groups on 8 nodes, at most 4 of them a token, where 8 free experts would reach 5.3.
TEST(RoutedNodes, StayWithinTheLimitAndRiseWithIt) {
  double last = 0;
  for (int64_t limit = 1; limit <= 8; ++limit) {
    const double reached = expected_nodes(grouped(8, limit), 8, 8);
    EXPECT_LE(reached, static_cast<double>(limit) * (1 + 1e-12));
    EXPECT_GT(reached, last);
    last = reached;
  }
  EXPECT_NEAR(expected_nodes(grouped(8, 4), 8, 8), 4 * (1 - std::pow(0.75, 8)), 1e-12);
}

// A group over several nodes (8 groups on 32): a token's experts of one group still lie on several of them.
TEST(RoutedNodes, SplitGroupsReachMoreNodes) {
  EXPECT_NEAR(expected_nodes(grouped(8, 4), 32, 8), 16 * (1 - std::pow(1 - 1.0 / 16, 8)), 1e-12);
  // Nodes that hold one group or two: between both.
  const double reached = expected_nodes(grouped(8, 4), 6, 8);
  EXPECT_GT(reached, expected_nodes(grouped(8, 4), 4, 8));
  EXPECT_LT(reached, expected_nodes(grouped(8, 4), 8, 8));
}

}  // namespace
}  // namespace mmoe
