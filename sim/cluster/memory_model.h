#pragma once
// Memory of every pipeline rank of a cluster job, tensor by tensor.

#include <array>
#include <string>
#include <vector>

#include "sim/cluster/layer_tensors.h"
#include "sim/cluster/stages.h"

namespace mmoe {

// What is allocated between steps, from the second on. Parts add up to static_bytes.
struct RankStatic {
  Bytes weights, gradients, optimizer;
  Bytes cached;      // of the gradients: what the allocator can give back
  Bytes workspaces;  // of matrix libraries
  Bytes buffers;     // persistent buffers of transfers, stand-in gradients, constants
  Bytes total() const { return weights + gradients + optimizer + workspaces + buffers; }
};

// One rank at the highest moment of a step. The parts add up to peak_allocated.
struct RankMemory {
  RankStatic held;          // at the peak: without what lives only between steps
  Bytes static_bytes;       // allocated at the end of a step
  Bytes activations;        // kept by micro-batches in flight
  Bytes logits;             // and all else of the loss
  Bytes transient;          // of the layer at work
  const char* moment = "";  // "loss head", "backward of a MoE layer", ...
  Bytes peak_allocated, peak_reserved;
  Bytes host;  // of the host's memory, for what is offloaded
};

// One rank's chunks, and what they hold at the highest moment of a step however the states are sharded.
struct RankContents {
  RankWeights weights;
  double distinct_weights = 0;       // shapes of weights, each once
  bool table = false;                // embedding or head
  double in_flight = 0;              // bytes kept by micro-batches in flight
  double offloaded = 0;              // the same on the host
  double queued = 0;                 // bytes that wait where memory allows, see MemoryModel::waiting
  double logits = 0, transient = 0;  // bytes
  const char* moment = "";
};

// Ranks over which one copy of what ZeRO shards lies.
struct StateShards {
  double dense = 1, expert = 1;
};
StateShards state_shards(const Job& job);

// Bytes a weight of what the optimizer keeps: master weight and moments.
double optimizer_state_bytes(const Job& job, const Framework& framework);

// What a device's allocator may take: on a GPU context and NCCL stand beside it.
Bytes allocatable_memory(const Job& job, const Framework& framework);

// Whether the host has so many bytes for each device; where it is not known what it has, it does.
bool host_holds(const Job& job, Bytes offloaded);

// The memory of jobs that share all but their pipeline, their schedule, their sharding and how many layers run forward
// again: what depends on nothing else is worked out once.
class MemoryModel {
 public:
  // Every MoE layer of every micro-batch at k. `rows_factor`: rows of the busiest expert-parallel rank over balanced
  // ones. Both arguments must outlive the model; `job` may change pipeline, virtual_pipeline, schedule, zero_stage,
  // zero_group, overlap and recompute_num_layers between calls.
  MemoryModel(const Job& job, const Framework& framework, double k, double rows_factor = 1);

  RankMemory rank(const std::vector<StageChunk>& chunks, int64_t rank) const {
    return this->rank(contents(chunks, rank));
  }

  // The same in two steps: what only the pipeline, the schedule and recompute_num_layers change, and what the sharding
  // does.
  RankContents contents(const std::vector<StageChunk>& chunks, int64_t rank) const;
  RankMemory rank(const RankContents& contents) const { return rank(contents, state_shards(job_)); }
  RankMemory rank(const RankContents& contents, const StateShards& shards) const;

  // However the layers are cut into stages and scheduled, the highest rank reserves no less.
  Bytes least_peak(const StateShards& shards) const;

  // The pieces of it, in bytes. What one micro-batch keeps in a chunk from its forward to its backward pass; what is
  // there during the whole step beside the states; what the loss, and the layer at work in a backward pass, add.
  double kept_by_chunk(const StageChunk& chunk) const;
  double kept_always(const RankContents& contents) const;
  double loss() const;
  double dropout_masks(const std::vector<StageChunk>& chunks) const;  // of the embedding, a chunk in flight
  double backward_work(const std::vector<StageChunk>& chunks) const;

  // What queued transfers and a device that lags behind its host keep waiting: with so many micro-batches of each chunk
  // in flight, which keep `kept` bytes, of at most `most_in_flight` chunks.
  double queued(const std::vector<StageChunk>& chunks, const std::vector<int64_t>& in_flight, double kept,
                int64_t most_in_flight) const;
  // Of it, what waits beside `needed` bytes of the rank of which `cached` can be given back. Negative where memory is
  // short and more is given back.
  double waiting(double queued, double needed, Bytes cached) const;

  // Of the host's memory: activations of the micro-batches in flight, or master weights, moments and the gradients that
  // they are updated with.
  Bytes host(const RankContents& contents, const StateShards& shards) const;

  // Between steps, from the second on.
  RankStatic held(const RankContents& contents, const StateShards& shards) const;

 private:
  double activations_of_chunk(const StageChunk& chunk) const;

  const Job& job_;
  const MemoryConventions& memory_;
  RankShapes s_;
  WeightPieces pieces_;
  RankWeights whole_model_;  // on a pipeline of one rank
  LayerBytes dense_, moe_;
  double hidden_, scores_, expert_rows_;
  double workspaces_, shared_buffer_;
  std::array<double, 8> distinct_weights_ = {};  // elements, by what a rank holds
  double weight_bytes_, gradient_bytes_, state_bytes_, offloaded_state_bytes_, stand_ins_;
  double loss_, accumulated_loss_;  // bytes of the loss head; more where micro-batches follow each other
  double mask_;                     // bytes of an attention mask
  double gathered_;                 // bytes of one gathered input that is not the rank's own
  bool keeps_activations_;          // on the device
  int64_t spared_;                  // micro-batches whose gathered inputs do not wait
  double run_ahead_;                // micro-batches more than the schedule's in flight
};

// All pipeline ranks of a job.
std::vector<RankMemory> cluster_memory(const Job& job, const Framework& framework, double k, double rows_factor = 1);

}  // namespace mmoe
