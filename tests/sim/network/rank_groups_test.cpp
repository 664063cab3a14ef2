#include "sim/network/rank_groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace mmoe {
namespace {

// The ranks of the group that `rank` is in.
std::vector<int64_t> members(const RankGroup& group, int64_t rank) {
  const int64_t span = group.size * group.stride;
  const int64_t first = rank / span * span + rank % group.stride;
  std::vector<int64_t> ranks;
  for (int64_t i = 0; i < group.size; ++i) ranks.push_back(first + i * group.stride);
  return ranks;
}

ParallelismConfig layout(int64_t tensor, int64_t context, int64_t pipeline, int64_t expert, int64_t expert_tensor) {
  ParallelismConfig p;
  p.tensor = tensor, p.context = context, p.pipeline = pipeline, p.expert = expert, p.expert_tensor = expert_tensor;
  return p;
}

// Megatron-Core's own example (parallel_state.py): 16 GPUs, tensor 2, pipeline 4.
TEST(RankGroups, MegatronExample) {
  const RankGroups groups = rank_groups(layout(2, 1, 4, 1, 1), 16);
  EXPECT_EQ(members(groups.tensor, 5), (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(members(groups.data, 0), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(members(groups.data, 15), (std::vector<int64_t>{13, 15}));
  EXPECT_EQ(members(groups.pipeline, 1), (std::vector<int64_t>{1, 5, 9, 13}));
}

// Folding: 64 GPUs, tensor 4 x context 2 for attention; experts 8 x expert tensor 1 over the same ranks of a stage.
TEST(RankGroups, ExpertsAreFoldedOverTheStage) {
  const RankGroups groups = rank_groups(layout(4, 2, 2, 8, 1), 64);
  EXPECT_EQ(members(groups.context, 3), (std::vector<int64_t>{3, 7}));
  EXPECT_EQ(members(groups.data, 0), (std::vector<int64_t>{0, 8, 16, 24}));
  EXPECT_EQ(groups.data_context.size, 8);
  EXPECT_EQ(members(groups.expert, 9), (std::vector<int64_t>{8, 9, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(members(groups.expert_data, 33), (std::vector<int64_t>{33, 41, 49, 57}));
  EXPECT_EQ(members(groups.pipeline, 7), (std::vector<int64_t>{7, 39}));
}

TEST(RankGroups, SizesMultiplyToAllDevices) {
  const RankGroups g = rank_groups(layout(2, 2, 3, 4, 2), 96);
  EXPECT_EQ(g.tensor.size * g.context.size * g.data.size * g.pipeline.size, 96);
  EXPECT_EQ(g.expert_tensor.size * g.expert.size * g.expert_data.size * g.pipeline.size, 96);
}

// Every group of every kind, laid on domains by hand: members is the smallest share that any of them has in a domain.
TEST(Place, IsTheSmallestShareOrBelow) {
  constexpr int64_t kRanks = 144;
  for (const int64_t devices : {2, 4, 6, 8, 9, 12, 24, 72}) {
    for (const int64_t size : {1, 2, 3, 4, 6, 8, 12, 16, 36, 48, 72, 144}) {
      for (const int64_t stride : {1, 2, 3, 4, 8, 9, 12, 24, 72}) {
        if (kRanks % (size * stride) != 0) continue;
        const RankGroup group{size, stride};
        int64_t smallest = size, largest = 0;
        for (int64_t rank = 0; rank < kRanks; ++rank) {
          std::map<int64_t, int64_t> share;
          for (const int64_t member : members(group, rank)) ++share[member / devices];
          for (const auto& [domain, count] : share) {
            smallest = std::min(smallest, count);
            largest = std::max(largest, count);
          }
        }
        const GroupPlacement placement = place(group, {.num_levels = 2, .devices = {devices, kRanks}});
        EXPECT_EQ(placement.members[1], size);
        const std::string row =
            std::to_string(size) + " x " + std::to_string(stride) + " on " + std::to_string(devices);
        EXPECT_LE(placement.members[0], smallest) << row;
        if (smallest == largest && devices % stride == 0) {
          EXPECT_EQ(placement.members[0], smallest) << row;
        }
      }
    }
  }
}

TEST(RankGroupNames, AreThoseThatTransfersAreCountedUnder) {
  const ParallelismConfig parallelism{
      .tensor = 2, .context = 2, .pipeline = 2, .expert = 4, .expert_tensor = 2, .stage_layers = {}};
  const RankGroups groups = rank_groups(parallelism, 16);
  EXPECT_EQ(group_named(groups, "world")->size, 16);
  EXPECT_EQ(group_named(groups, "data")->size, 4);
  EXPECT_EQ(group_named(groups, "context")->stride, 2);
  EXPECT_EQ(group_named(groups, "tensor_context")->size, 4);
  EXPECT_EQ(group_named(groups, "stage")->size, 8);
  EXPECT_EQ(group_named(groups, "expert")->size, 4);
  EXPECT_EQ(group_named(groups, "expert_tensor")->size, 2);
  EXPECT_EQ(group_named(groups, "expert_data")->stride, 8);
  EXPECT_EQ(group_named(groups, "backward_around")->stride, 8);
  EXPECT_FALSE(group_named(groups, "experts"));
}

TEST(Place, LevelsGrowOutwards) {
  const GroupPlacement placement = place({64, 2}, {.num_levels = 3, .devices = {8, 72, 256}});
  EXPECT_EQ(placement.members[0], 4);
  EXPECT_GE(placement.members[1], 4);
  EXPECT_EQ(placement.members[2], 64);
}

}  // namespace
}  // namespace mmoe
