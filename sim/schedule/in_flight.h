#pragma once
// What the passes of a schedule keep alive on each rank: chunks in flight, bytes, and where the peak lies.

#include <cstdint>
#include <span>
#include <vector>

#include "sim/schedule/passes.h"
#include "sim/units/units.h"

namespace mmoe {

// Bytes by pass. A forward adds kept[kept_index] when it ends. A backward releases it when it ends; of a split backward
// the gradient of the input releases `input_share` and that of the weights the rest.
struct PassBytes {
  std::span<const Bytes> kept;    // [PipelinePasses::kept_index]
  std::span<const Bytes> height;  // [pass]: the most alive during it over what was held before it began; empty: 0
  double input_share = 1;         // in 0..1
};

struct RankPeak {
  Bytes bytes;
  int64_t pass = 0;  // index into PipelinePasses::passes of the first pass that reaches it
};

// The peak of every rank, exact along its order: for each pass the bytes held before it plus its height, and at least
// the bytes held after it.
std::vector<RankPeak> peak_bytes(const PipelinePasses& passes, const PassBytes& bytes);

// Chunks that have run forward and not yet backward. Of a split backward, `weight_only` counts those whose gradient of
// the input is done and that of the weights is not.
struct ChunksInFlight {
  int64_t whole = 0;
  int64_t weight_only = 0;
  int64_t total() const { return whole + weight_only; }
  bool operator==(const ChunksInFlight&) const = default;
};

// The most that each rank holds at once (by total, then by `whole`), counted along its order.
std::vector<ChunksInFlight> count_chunks_in_flight(const PipelinePasses& passes);

// The same in closed form. 1F1B: min(p - rank, m). Interleaved: warm-up + 1, at most m v. ZB-H1: min(p, m) on every
// rank, min(p - rank, m) of them whole. ZB-V: 2 p halves on every rank, fewer when m < 2 p - 1. Follows from the orders
// that passes.h names; Qi et al. 2023 (arXiv:2401.10241), table 2 and section 6, state the zero-bubble ones.
ChunksInFlight chunks_in_flight(const PipelineShape& shape, int64_t rank);

}  // namespace mmoe
