#pragma once
// Random pipelines for the tests of schedules.

#include <algorithm>
#include <random>
#include <vector>

#include "sim/schedule/closed_form.h"
#include "sim/schedule/passes.h"
#include "sim/schedule/timeline.h"

namespace mmoe {

// Every schedule, 1 to 9 ranks (2 at least where it must), up to 4 chunks, few and many micro-batches.
inline PipelineShape random_shape(std::mt19937& random) {
  const auto integer = [&](int64_t low, int64_t high) { return std::uniform_int_distribution(low, high)(random); };
  const auto schedule = static_cast<PipelineSchedule>(integer(0, 2));
  PipelineShape shape{schedule, integer(schedule == PipelineSchedule::kInterleaved ? 2 : 1, 9), 1, integer(1, 30), 0};
  if (schedule == PipelineSchedule::kZeroBubble) shape.virtual_pipeline = integer(1, 2);
  if (schedule == PipelineSchedule::kInterleaved) {
    shape.virtual_pipeline = integer(2, 4);
    shape.group = shape.pipeline + integer(0, 3);
    const int64_t last = integer(0, 1) * integer(shape.pipeline, shape.group - 1 + (shape.group == shape.pipeline));
    shape.num_micro_batches = shape.group * integer(1, 4) + (shape.group == shape.pipeline ? 0 : last);
  }
  return shape;
}

// Stage times spread by up to +- `spread` about 1 for the forward, as much for a whole backward's first part, 0.8 for
// the second; [rank * v + chunk].
inline std::vector<ChunkSeconds> random_chunks(const PipelineShape& shape, double spread, std::mt19937& random) {
  std::uniform_real_distribution<double> around(1 - spread, 1 + spread);
  std::vector<ChunkSeconds> chunks;
  for (int64_t i = 0; i < shape.num_stages(); ++i) {
    const double size = around(random);
    chunks.push_back({Seconds{size}, Seconds{size * around(random)}, Seconds{0.8 * size}});
  }
  return chunks;
}

inline Transfers random_transfers(const PipelineShape& shape, TransferMode mode, double most, std::mt19937& random) {
  std::uniform_real_distribution<double> seconds(0, most);
  Transfers transfers{mode, {}};
  for (int64_t r = 0; r < shape.pipeline; ++r) transfers.seconds.push_back(Seconds{seconds(random)});
  return transfers;
}

// Equal micro-batches: the seconds of every pass from those of its chunk.
inline std::vector<Seconds> pass_seconds(const PipelinePasses& passes, const std::vector<ChunkSeconds>& chunks) {
  return pass_table(passes, [&](int64_t rank, const Pass& pass) {
    return chunks[static_cast<size_t>(rank * passes.shape.virtual_pipeline + pass.chunk)].of(pass.kind);
  });
}

}  // namespace mmoe
