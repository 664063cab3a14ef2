#pragma once
// How one training job is split over devices. Degrees are group sizes; 1 means "not split".

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/config/hardware_config.h"
#include "sim/config/model_config.h"

namespace mmoe {

// Which pass a pipeline rank runs when. 1F1B: each backward as soon as it can run (PipeDream-Flush, Narayanan et al.
// 2021, arXiv 2006.09503, section 3.2). Interleaved: the same with several chunks a rank (Narayanan et al. 2021, arXiv
// 2104.04473, section 2.2). Zero-bubble: gradients of weights apart, in what was the bubble; ZB-H1 with one chunk a
// rank (Qi et al. 2023, arXiv 2401.10241, section 2.2), ZB-V with two (the same, section 6).
enum class PipelineSchedule { kOneForwardOneBackward, kInterleaved, kZeroBubble };

// How context parallelism sees the whole sequence: keys and values travel round a ring (Ring Attention, Liu et al.
// 2023, arXiv 2310.01889; causal work is shared out evenly by giving each rank a chunk from either end, as in
// Megatron-Core), or all-to-all turns the split of the sequence into a split of the heads (DeepSpeed-Ulysses, arXiv
// 2309.14509).
enum class ContextKind { kRing, kAllToAll };

struct ParallelismConfig {
  int64_t tensor = 1;
  int64_t context = 1;
  int64_t pipeline = 1;
  int64_t virtual_pipeline = 1;
  int64_t expert = 1;
  int64_t expert_tensor = 1;
  int64_t zero_stage = 0;
  int64_t zero_group = 0;  // data-parallel ranks that share one sharded copy (HSDP), context ranks with them; 0: all
  bool sequence = false;
  ContextKind context_kind = ContextKind::kRing;
  PipelineSchedule schedule = PipelineSchedule::kOneForwardOneBackward;
  // Layers of each pipeline chunk, chunk c on rank c mod pipeline; empty: as even as possible, longer ones first.
  std::vector<int64_t> stage_layers;

  // The rank that holds chunk c of the model, from 0: they go round the ranks, or with the V-shaped zero-bubble
  // schedule (two chunks a rank) down and up again.
  int64_t rank_of_chunk(int64_t chunk) const {
    const bool back = schedule == PipelineSchedule::kZeroBubble && virtual_pipeline == 2 && chunk >= pipeline;
    return back ? 2 * pipeline - 1 - chunk : chunk % pipeline;
  }

  int64_t data(const HardwareConfig& hardware) const { return hardware.num_devices / (tensor * pipeline * context); }
  int64_t expert_data(const HardwareConfig& hardware) const {
    return hardware.num_devices / (expert * expert_tensor * pipeline);
  }

  // Copies of what ZeRO shards: with zero_group the data-parallel ranks fall into groups that hold one each, context
  // ranks shard with their group, and the ranks that share experts fall into as many groups. Source: Megatron-Core
  // 0.16.1, parallel_state.py, num_distributed_optimizer_instances, which divides both sizes.
  int64_t sharded_copies(const HardwareConfig& hardware) const {
    return zero_group == 0 ? 1 : std::max<int64_t>(1, data(hardware) / zero_group);
  }

  // Throws ConfigError naming the field, its value and the rule it breaks.
  void validate(const ModelConfig& model, const HardwareConfig& hardware, const std::string& where) const;
};

}  // namespace mmoe
