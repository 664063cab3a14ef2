#pragma once
// Step time of the V-shaped zero-bubble schedule (ZB-V), which has no closed form: few micro-batches are played.

#include <map>
#include <span>
#include <utility>

#include "sim/schedule/closed_form.h"

namespace mmoe {

// Keeps the passes that it has laid out, for a search that asks for the same pipelines many times. One thread.
class VShapedSteps {
 public:
  // `chunks` [rank * 2 + chunk]. Up to 6 p micro-batches are played, and equal to the simulation. Beyond, the schedule
  // repeats itself once a micro-batch: each further one takes what those between 4 p and 6 p take.
  Seconds seconds(const PipelineShape& shape, std::span<const ChunkSeconds> chunks, const Transfers& transfers);

 private:
  Seconds play(PipelineShape shape, int64_t num_micro_batches, std::span<const ChunkSeconds> chunks,
               const Transfers& transfers);

  std::map<std::pair<int64_t, int64_t>, PipelinePasses> passes_;  // by ranks and micro-batches
  Timeline timeline_;
};

}  // namespace mmoe
