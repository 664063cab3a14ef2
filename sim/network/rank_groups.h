#pragma once
// How parallel groups lie on the devices, and how many of a group's members share a node, a rack, the network.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "sim/config/parallelism_config.h"

namespace mmoe {

// `size` ranks, each `stride` after the one before. Rank r runs on device r.
struct RankGroup {
  int64_t size = 1;
  int64_t stride = 1;
};

// Where a rank stands in its group.
inline int64_t position_in(const RankGroup& group, int64_t rank) { return rank / group.stride % group.size; }

// The groups of one job. Ranks are numbered innermost first: tensor, context, data, pipeline for attention, and
// independently of it expert_tensor, expert, expert_data, pipeline for the experts.
// Source: Megatron-Core's order "tp-cp-ep-dp-pp"; Liu et al. 2025, MoE Parallel Folding (arXiv:2504.14960), section 3.
struct RankGroups {
  RankGroup tensor, context, data, pipeline;
  RankGroup data_context;  // data x context: the ranks that hold the same weights outside the experts
  RankGroup stage;         // all ranks of a pipeline stage: they hold the same weights that nothing splits
  RankGroup expert_tensor, expert, expert_data;
  RankGroup world;  // all
};

RankGroups rank_groups(const ParallelismConfig& parallelism, int64_t num_devices);

// The group that our trainer's transfers are counted under: "world", "tensor", "context", "tensor_context", "data"
// (with context), "stage", "expert_tensor", "expert", "expert_data", and of the pipeline "forward", "forward_around",
// "backward", "backward_around". Nothing for other names.
std::optional<RankGroup> group_named(const RankGroups& groups, std::string_view name);

// Devices that one domain of each level joins, from the node outwards; the last level joins all.
struct FabricDomains {
  int num_levels = 1;
  std::array<int64_t, kMaxFabricLevels> devices{};
};

// Where one group's members lie. members[l] of them share a domain of level l; the outermost has all.
struct GroupPlacement {
  int64_t size = 1;
  int num_levels = 1;
  std::array<int64_t, kMaxFabricLevels> members{1, 1, 1, 1};
};

// All groups of a kind start at multiples of size x stride, plus an offset below the stride. Where domains cut some of
// them unevenly, members is the smallest share, since the group with the fewest links into a domain is the last to end.
GroupPlacement place(const RankGroup& group, const FabricDomains& domains);

}  // namespace mmoe
