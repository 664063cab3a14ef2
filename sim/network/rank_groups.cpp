#include "sim/network/rank_groups.h"

#include <algorithm>
#include <numeric>

namespace mmoe {

RankGroups rank_groups(const ParallelismConfig& p, int64_t num_devices) {
  const int64_t stage = num_devices / p.pipeline;  // ranks of one pipeline stage, which are consecutive
  const int64_t data_context = stage / p.tensor;
  const int64_t folded = p.expert_tensor * p.expert;
  return {.tensor = {p.tensor, 1},
          .context = {p.context, p.tensor},
          .data = {data_context / p.context, p.tensor * p.context},
          .pipeline = {p.pipeline, stage},
          .data_context = {data_context, p.tensor},
          .stage = {stage, 1},
          .expert_tensor = {p.expert_tensor, 1},
          .expert = {p.expert, p.expert_tensor},
          .expert_data = {stage / folded, folded},
          .world = {num_devices, 1}};
}

std::optional<RankGroup> group_named(const RankGroups& groups, std::string_view name) {
  if (name == "world") return groups.world;
  if (name == "tensor") return groups.tensor;
  if (name == "context") return groups.context;
  if (name == "tensor_context") return RankGroup{groups.tensor.size * groups.context.size, 1};
  if (name == "data") return groups.data_context;
  if (name == "stage") return groups.stage;
  if (name == "expert_tensor") return groups.expert_tensor;
  if (name == "expert") return groups.expert;
  if (name == "expert_data") return groups.expert_data;
  for (const char* pipeline : {"forward", "forward_around", "backward", "backward_around"}) {
    if (name == pipeline) return groups.pipeline;
  }
  return std::nullopt;
}

GroupPlacement place(const RankGroup& group, const FabricDomains& domains) {
  GroupPlacement placement{.size = group.size, .num_levels = domains.num_levels};
  const int64_t span = group.size * group.stride;
  for (int level = 0; level + 1 < domains.num_levels; ++level) {
    // Cuts lie at multiples of gcd(span, devices) within a group, so no piece is shorter than that.
    const int64_t piece = std::gcd(span, domains.devices[level]);
    const int64_t inner = level == 0 ? 1 : placement.members[level - 1];
    placement.members[level] = std::clamp(piece / group.stride, inner, group.size);
  }
  placement.members[domains.num_levels - 1] = group.size;
  return placement;
}

}  // namespace mmoe
