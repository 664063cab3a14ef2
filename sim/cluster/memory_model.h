#pragma once
// Memory of every pipeline rank of a cluster job, tensor by tensor.

#include <string>
#include <vector>

#include "sim/cluster/layer_tensors.h"
#include "sim/cluster/stages.h"

namespace mmoe {

// What is allocated between steps, from the second on. Parts add up to static_bytes.
struct RankStatic {
  Bytes weights, gradients, optimizer;
  Bytes workspaces;  // of matrix libraries
  Bytes buffers;     // persistent buffers of transfers, stand-in gradients, constants
  Bytes total() const { return weights + gradients + optimizer + workspaces + buffers; }
};

// One rank at the highest moment of a step. The parts add up to peak_allocated.
struct RankMemory {
  RankStatic held;     // at the peak: without what lives only between steps
  Bytes static_bytes;  // allocated at the end of a step
  Bytes activations;   // kept by micro-batches in flight
  Bytes logits;        // and all else of the loss
  Bytes transient;     // of the layer at work
  std::string moment;  // "loss head", "backward of a MoE layer", ...
  Bytes peak_allocated, peak_reserved;
};

RankStatic rank_static(const Job& job, const Framework& framework, const PipelineStages& stages, int64_t rank);

// All pipeline ranks, every MoE layer of every micro-batch at k. `rows_factor`: rows of the busiest expert-parallel
// rank over balanced ones.
std::vector<RankMemory> cluster_memory(const Job& job, const Framework& framework, double k, double rows_factor = 1);

}  // namespace mmoe
