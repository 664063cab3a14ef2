#pragma once
// How many copies of what ZeRO shards there are.

#include <algorithm>

#include "sim/config/parallelism_config.h"

namespace mmoe {

// With parallelism.zero_group the data-parallel ranks fall into groups that hold one sharded copy each (HSDP): context
// ranks shard with their group, and the ranks that share experts fall into as many groups. 1: all ranks share one copy.
// Source: Megatron-Core 0.16.1, parallel_state.py, num_distributed_optimizer_instances, which divides both sizes.
inline int64_t num_sharded_copies(const ParallelismConfig& parallelism, const HardwareConfig& hardware) {
  if (parallelism.zero_group == 0) return 1;
  return std::max<int64_t>(1, parallelism.data(hardware) / parallelism.zero_group);
}

}  // namespace mmoe
