#include "sim/cluster/reserved_memory.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sim/cluster/step_time.h"
#include "sim/schedule/in_flight.h"

namespace mmoe {
namespace {

// Writes events and gives ids back for use again.
class Recorder {
 public:
  int32_t allocate(double bytes) {
    if (bytes < 1) return -1;
    int32_t id = next_;
    if (free_.empty()) {
      ++next_;
    } else {
      id = free_.back();
      free_.pop_back();
    }
    events.push_back({static_cast<int64_t>(std::ceil(bytes)), id, 0});
    return id;
  }
  void release(int32_t id) {
    if (id < 0) return;
    events.push_back({AllocationEvent::kFree, id, 0});
    free_.push_back(id);
  }
  std::vector<AllocationEvent> events;

 private:
  std::vector<int32_t> free_;
  int32_t next_ = 0;
};

}  // namespace

std::vector<AllocationEvent> rank_allocations(const Job& job, const Framework& framework, int64_t rank, double k,
                                              double rows_factor, std::size_t& second_step) {
  const PipelineStages stages = pipeline_stages(job, framework);
  const std::vector<StageChunk>& chunks = stages[static_cast<std::size_t>(rank)];
  const RankShapes s = rank_shapes(job, framework);
  const MemoryModel model(job, framework, k, rows_factor);
  const RankMemory memory = model.rank(chunks, rank);
  Recorder recorder;
  // Weights layer by layer, an attention and a feed-forward matrix each; experts' weights one by one.
  for (const StageChunk& chunk : chunks) {
    for (int64_t layer = chunk.first_layer; layer < chunk.first_layer + chunk.num_layers; ++layer) {
      const RankWeights weights = layer_weights(job, framework, layer);
      const double share =
          memory.held.weights.value / std::max(1.0, s.element * rank_weights(job, framework, chunks).total());
      for (int i = 0; i < 4; ++i) recorder.allocate(share * s.element * weights.dense / 4);
      for (double expert = 0; expert < s.local_experts && weights.expert > 0; ++expert) {
        recorder.allocate(share * s.element * weights.expert / s.local_experts);
      }
    }
    for (const bool table : {chunk.embedding, chunk.head}) {
      if (table) recorder.allocate(s.element * s.vocabulary * s.hidden_size);
    }
  }
  recorder.allocate(memory.held.gradients.value);
  recorder.allocate(memory.held.workspaces.value);
  recorder.allocate(memory.held.buffers.value);

  const auto tensors = [&](LayerKind kind) { return layer_tensors(job, framework, s, kind, k, rows_factor); };
  const bool has_moe = job.model.num_moe_layers() > 0;
  const bool has_dense = job.model.num_moe_layers() < job.model.num_layers;
  const std::vector<KeptTensor> dense = has_dense ? tensors(LayerKind::kDense) : std::vector<KeptTensor>{};
  const std::vector<KeptTensor> moe = has_moe ? tensors(LayerKind::kMoe) : std::vector<KeptTensor>{};
  PipelineShape shape = pipeline_shape(job);
  const int64_t in_flight = chunks_in_flight(shape, rank).total();
  const int64_t enough = (in_flight + shape.virtual_pipeline - 1) / shape.virtual_pipeline + 2;
  // Whole groups of micro-batches, so that interleaved schedules stay valid.
  const int64_t group = shape.pipeline * ((enough + shape.pipeline - 1) / shape.pipeline);
  shape.num_micro_batches = std::min(shape.num_micro_batches, std::max(group, shape.pipeline));
  const PipelinePasses passes = pipeline_passes(shape);
  const double hidden = s.element * s.split_tokens * s.hidden_size;
  const double work = memory.transient.value, loss = memory.logits.value;
  const bool offloads = job.training.offload == Offload::kActivations;

  std::vector<std::vector<int32_t>> kept(static_cast<std::size_t>(shape.virtual_pipeline * shape.num_micro_batches));
  for (int step = 0; step < 2; ++step) {
    if (step == 1) {
      second_step = recorder.events.size();
    }
    for (const Pass& pass : passes.of_rank(rank)) {
      std::vector<int32_t>& held =
          kept[static_cast<std::size_t>(pass.chunk * shape.num_micro_batches + pass.micro_batch)];
      const StageChunk& chunk = chunks[static_cast<std::size_t>(pass.chunk)];
      // Of offloaded activations two layers' are there: one at work, the other on its way.
      std::vector<int32_t> leaving;
      const auto leave = [&](std::vector<int32_t>& next) {
        for (const int32_t id : leaving) recorder.release(id);
        leaving = std::exchange(next, {});
      };
      if (pass.kind == PassKind::kForward) {
        for (int64_t layer = chunk.first_layer; layer < chunk.first_layer + chunk.num_layers; ++layer) {
          std::vector<int32_t> again;
          for (const KeptTensor& tensor : job.model.is_moe_layer(layer) ? moe : dense) {
            (tensor.recomputed ? again : held).push_back(recorder.allocate(tensor.bytes));
          }
          const int32_t output = recorder.allocate(hidden);
          for (const int32_t id : again) recorder.release(id);
          recorder.release(output);
          if (offloads) leave(held);
        }
        if (chunk.head && loss > 0) {
          // Logits as computed, and what the loss makes of them.
          const int32_t logits = recorder.allocate(loss / 3), probabilities = recorder.allocate(loss * 2 / 3);
          recorder.release(logits);
          recorder.release(probabilities);
        }
        if (offloads) leave(held);
      } else if (pass.kind != PassKind::kBackwardInput && offloads) {
        for (int64_t layer = chunk.num_layers; layer-- > 0;) {
          for (const KeptTensor& tensor : job.model.is_moe_layer(chunk.first_layer + layer) ? moe : dense) {
            if (!tensor.recomputed) held.push_back(recorder.allocate(tensor.bytes));
          }
          const int32_t first = recorder.allocate(work / 2), second = recorder.allocate(work / 2);
          recorder.release(first);
          recorder.release(second);
          leave(held);
        }
        leave(held);
      } else if (pass.kind != PassKind::kBackwardInput) {
        const int64_t layers = std::max<int64_t>(chunk.num_layers, 1);
        const std::size_t each = held.size() / static_cast<std::size_t>(layers);
        for (int64_t layer = 0; layer < layers && !held.empty(); ++layer) {
          const int32_t first = recorder.allocate(work / 2), second = recorder.allocate(work / 2);
          for (std::size_t i = 0; i < each && !held.empty(); ++i) {
            recorder.release(held.back());
            held.pop_back();
          }
          recorder.release(first);
          recorder.release(second);
        }
        while (!held.empty()) {
          recorder.release(held.back());
          held.pop_back();
        }
      }
    }
    if (step == 0) {  // optimiser states: a master copy and two moments
      for (int i = 0; i < 3; ++i) recorder.allocate(memory.held.optimizer.value / 3);
    }
  }
  return std::move(recorder.events);
}

ReplayPeaks replay_rank(const Job& job, const Framework& framework, int64_t rank, double k, double rows_factor) {
  std::size_t second_step = 0;
  const std::vector<AllocationEvent> events = rank_allocations(job, framework, rank, k, rows_factor, second_step);
  AllocatorOptions options;
  options.kind = job.hardware.allocator;
  return replay(events, options, second_step);
}

}  // namespace mmoe
