#include "sim/schedule/in_flight.h"

#include <algorithm>

#include "sim/units/errors.h"

namespace mmoe {

std::vector<RankPeak> peak_bytes(const PipelinePasses& passes, const PassBytes& bytes) {
  const PipelineShape& shape = passes.shape;
  MMOE_CHECK(static_cast<int64_t>(bytes.kept.size()) == shape.num_stages() * shape.num_micro_batches) << "bytes kept";
  MMOE_CHECK(bytes.height.empty() || bytes.height.size() == passes.passes.size()) << "one height a pass";
  std::vector<RankPeak> peaks;
  for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
    RankPeak peak{Bytes{}, passes.rank_begin[rank]};
    Bytes held;
    for (int32_t i = passes.rank_begin[rank]; i < passes.rank_begin[rank + 1]; ++i) {
      const Pass& pass = passes.passes[i];
      const Bytes kept = bytes.kept[passes.kept_index(rank, pass.chunk, pass.micro_batch)];
      Bytes during = held + (bytes.height.empty() ? Bytes{} : bytes.height[i]);
      switch (pass.kind) {
        case PassKind::kForward:
          held += kept;
          break;
        case PassKind::kBackward:
          held -= kept;
          break;
        case PassKind::kBackwardInput:
          held -= kept * bytes.input_share;
          break;
        case PassKind::kBackwardWeight:
          held -= kept * (1 - bytes.input_share);
          break;
      }
      during = std::max(during, held);
      if (during > peak.bytes) peak = {during, i};
    }
    peaks.push_back(peak);
  }
  return peaks;
}

std::vector<ChunksInFlight> count_chunks_in_flight(const PipelinePasses& passes) {
  std::vector<ChunksInFlight> most;
  for (int64_t rank = 0; rank < passes.shape.pipeline; ++rank) {
    ChunksInFlight now, largest;
    for (const Pass& pass : passes.of_rank(rank)) {
      switch (pass.kind) {
        case PassKind::kForward:
          ++now.whole;
          break;
        case PassKind::kBackward:
          --now.whole;
          break;
        case PassKind::kBackwardInput:
          --now.whole;
          ++now.weight_only;
          break;
        case PassKind::kBackwardWeight:
          --now.weight_only;
          break;
      }
      const bool more = now.total() > largest.total() || (now.total() == largest.total() && now.whole > largest.whole);
      if (more) largest = now;
    }
    most.push_back(largest);
  }
  return most;
}

ChunksInFlight chunks_in_flight(const PipelineShape& shape, int64_t rank) {
  const int64_t p = shape.pipeline, m = shape.num_micro_batches;
  if (shape.is_v_shaped()) return {std::min(m, 2 * p - rank - 1) + std::min(m, rank + 1), 0};
  const int64_t whole = std::min(warm_up_passes(shape, rank) + 1, m * shape.virtual_pipeline);
  return {whole, shape.splits_backward() ? std::min(p, m) - whole : 0};
}

}  // namespace mmoe
