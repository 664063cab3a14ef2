#pragma once
// What each pipeline rank runs in one step, in its order: forward and backward passes of micro-batches through chunks.

#include <cstdint>
#include <span>
#include <vector>

#include "sim/config/parallelism_config.h"

namespace mmoe {

// A split backward computes the gradient of the chunk's input first and that of its weights later.
enum class PassKind : uint8_t { kForward, kBackward, kBackwardInput, kBackwardWeight };

struct Pass {
  PassKind kind;
  int32_t micro_batch;
  int32_t chunk;  // of this rank: 0 .. virtual_pipeline - 1
  bool operator==(const Pass&) const = default;
};

// A pipeline of p ranks that hold v chunks of layers each. Chunk c of rank r is stage c p + r of the model; for the
// zero-bubble schedule with v = 2 (ZB-V) chunk 1 of rank r is stage 2 p - 1 - r: down and up again.
struct PipelineShape {
  PipelineSchedule schedule = PipelineSchedule::kOneForwardOneBackward;
  int64_t pipeline = 1;
  int64_t virtual_pipeline = 1;
  int64_t num_micro_batches = 1;
  int64_t group = 0;  // interleaved: micro-batches that pass one chunk in a row; 0 means `pipeline`

  int64_t num_stages() const { return pipeline * virtual_pipeline; }
  int64_t group_size() const { return group > 0 ? group : pipeline; }
  bool is_v_shaped() const { return schedule == PipelineSchedule::kZeroBubble && virtual_pipeline == 2; }
  bool splits_backward() const { return schedule == PipelineSchedule::kZeroBubble; }
  int64_t stage(int64_t rank, int64_t chunk) const {
    return is_v_shaped() && chunk == 1 ? 2 * pipeline - 1 - rank : chunk * pipeline + rank;
  }
  int64_t rank_of(int64_t stage) const {
    return is_v_shaped() && stage >= pipeline ? 2 * pipeline - 1 - stage : stage % pipeline;
  }
  int64_t chunk_of(int64_t stage) const { return stage / pipeline; }

  // 1F1B has one chunk a rank, interleaved at least two on at least two ranks, zero-bubble one (ZB-H1) or two (ZB-V).
  // Interleaved, as Megatron-Core demands: a group no smaller than the pipeline and no larger than the number of
  // micro-batches, and a last group that is whole or no smaller than the pipeline either.
  bool is_valid() const;
};

// Forwards that a rank runs before its first backward: p - rank - 1 for 1F1B and ZB-H1; 2 (p - rank - 1) + (v - 1)
// group for interleaved (Narayanan et al. 2021, arXiv:2104.04473, section 2.2, as Megatron-Core runs it); at most all.
// Not for ZB-V, whose warm-up holds backwards of the other chunk.
int64_t warm_up_passes(const PipelineShape& shape, int64_t rank);

// The schedule as flat arrays, for sweeps without look-ups. Rank r runs passes[rank_begin[r]] .. passes[rank_begin[r +
// 1] - 1] in this order. Indices of passes are positions in `passes`.
struct PipelinePasses {
  // One pass in an order in which a pass comes after all that it waits for.
  struct Step {
    int32_t pass;
    int32_t source;  // position in the sweep of the pass of another rank that sends its input; -1: none
    int32_t rank;
    int32_t link;  // over which it is sent: link r joins rank r and rank (r + 1) mod p
  };
  PipelineShape shape;
  std::vector<Pass> passes;
  std::vector<int32_t> rank_begin;  // [p + 1]
  std::vector<Step> sweep;          // every pass once
  std::vector<int32_t> swept;       // [pass]: its position in the sweep

  std::span<const Pass> of_rank(int64_t rank) const {
    return std::span(passes).subspan(rank_begin[rank], rank_begin[rank + 1] - rank_begin[rank]);
  }
  // Index of (rank, chunk, micro-batch) in tables of what is kept between forward and backward.
  int64_t kept_index(int64_t rank, int64_t chunk, int64_t micro_batch) const {
    return (rank * shape.virtual_pipeline + chunk) * shape.num_micro_batches + micro_batch;
  }
};

// The passes of a valid shape. 1F1B and interleaved as Megatron-Core; ZB-H1 and ZB-V as Qi et al. 2023
// (arXiv:2401.10241), figure 3 and section 6.
PipelinePasses pipeline_passes(const PipelineShape& shape);

// The same for orders given by the caller ([rank][position]). Stops (MMOE_CHECK) unless every micro-batch passes every
// chunk forward and then backward, and unless the ranks can finish (no rank waits for a pass behind one that waits).
PipelinePasses link_passes(const PipelineShape& shape, const std::vector<std::vector<Pass>>& by_rank);

}  // namespace mmoe
