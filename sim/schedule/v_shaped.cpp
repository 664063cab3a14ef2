#include "sim/schedule/v_shaped.h"

#include "sim/units/errors.h"

namespace mmoe {

Seconds VShapedSteps::seconds(const PipelineShape& shape, std::span<const ChunkSeconds> chunks,
                              const Transfers& transfers) {
  MMOE_CHECK(shape.is_v_shaped()) << "other schedules have a closed form";
  const int64_t few = 4 * shape.pipeline, more = 6 * shape.pipeline, all = shape.num_micro_batches;
  if (all <= more) return play(shape, all, chunks, transfers);
  const Seconds at_few = play(shape, few, chunks, transfers), at_more = play(shape, more, chunks, transfers);
  return at_more + (at_more - at_few) * (static_cast<double>(all - more) / static_cast<double>(more - few));
}

Seconds VShapedSteps::play(PipelineShape shape, int64_t num_micro_batches, std::span<const ChunkSeconds> chunks,
                           const Transfers& transfers) {
  shape.num_micro_batches = num_micro_batches;
  auto place = passes_.find({shape.pipeline, num_micro_batches});
  if (place == passes_.end()) {
    place = passes_.emplace(std::pair{shape.pipeline, num_micro_batches}, pipeline_passes(shape)).first;
  }
  const PipelinePasses& passes = place->second;
  simulate_pipeline(passes, pass_seconds(passes, chunks), transfers, timeline_);
  return timeline_.total;
}

}  // namespace mmoe
