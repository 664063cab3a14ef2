#pragma once
// What a framework keeps in memory: its conventions, read from its file, and few constants read off measurements.

#include <array>

#include "sim/framework/number_definition.h"

namespace mmoe {

// Bytes unless said otherwise. Defaults: Megatron-Core with Transformer Engine on Hopper.
struct MemoryConventions {
  double master_and_moments = 12;      // optimiser, each weight: fp32 copy and two moments
  double extra_gradient_bytes = 0;     // of each weight, beside the gradients that micro-batches are added into
  double logit_bytes = 6;              // of each logit at the loss: as computed, and the fp32 softmax
  double fused_logit_bytes = 2;        // the same with a fused loss, in place
  double accumulated_logit_bytes = 0;  // more of it where a step has several micro-batches: of the one before
  double attention_output_copies = 0;  // further outputs that core attention keeps: 1 with flash-attn, 0 with cuDNN
  double activation_copies = 0;        // further tensors of the feed-forward width that are kept
  double matrix_workspace = 33554432;  // of cuBLAS, for each of the threads of forward and backward
  double engine_workspace = 33554432;  // of Transformer Engine
  double grouped_workspaces = 4;       // more of these with grouped products, a number
  double stand_in_gradients = 1;       // whether fused gradient accumulation keeps one gradient of each weight shape
  double global_buffer = 1;            // whether gathered inputs and the like share one persistent buffer
  double pipeline_leftovers = 1;       // received tensors that stay: this times (2 v + 1)
  double hot_expert_excess = 0.1;      // rows of dropless routing above balance, over the experts of a rank
  double expert_backward_buffers = 3;  // buffers of routed rows, hidden size wide, in a MoE layer's backward pass
  double data_parallel_buffer = 0;  // further bytes of a weight with more than one data-parallel rank: buckets, gathers
  double pipeline_data_buffer = 0;  // more of them in a pipeline
  double embedding_gradient_bytes = 0;  // of each weight of the embedding while its gradient is made
  double backward_work_factor = 1;      // tensors of a dense layer's backward pass over the gradient of its activation
  double pending_gathers =
      0;  // gathered inputs a layer of all micro-batches in flight but two: queued transfers hold them
  double pending_limit = 100;          // the most of them on a rank: the queue is only so long
  double run_ahead_micro_batches = 0;  // activations of further ones where the host runs ahead of the device
  double run_ahead_flops = 1e12;       // of a layer's forward pass, at which half of that is held
  double reserved_excess = 0.045;  // what the allocator reserves beyond the replay of kept tensors, a share of the peak
  double constant_bytes = 0;       // all else that does not depend on the job
  double context_bytes = 1e9;      // outside of the allocator: context, NCCL
};

inline constexpr std::array kMemoryConventionDefinitions = std::to_array<NumberDefinition<MemoryConventions>>({
    {"master_and_moments", &MemoryConventions::master_and_moments, 2, 20, "optimiser bytes of a weight"},
    {"extra_gradient_bytes", &MemoryConventions::extra_gradient_bytes, 0, 8, "further gradient bytes of a weight"},
    {"logit_bytes", &MemoryConventions::logit_bytes, 2, 20, "bytes of a logit at the loss"},
    {"fused_logit_bytes", &MemoryConventions::fused_logit_bytes, 0, 8, "bytes of a logit with a fused loss"},
    {"accumulated_logit_bytes", &MemoryConventions::accumulated_logit_bytes, 0, 8, "more with several micro-batches"},
    {"attention_output_copies", &MemoryConventions::attention_output_copies, 0, 2, "further attention outputs kept"},
    {"activation_copies", &MemoryConventions::activation_copies, 0, 3, "further feed-forward tensors kept"},
    {"matrix_workspace", &MemoryConventions::matrix_workspace, 0, 1e9, "workspace of cuBLAS, bytes a thread"},
    {"engine_workspace", &MemoryConventions::engine_workspace, 0, 1e9, "workspace of Transformer Engine, bytes"},
    {"grouped_workspaces", &MemoryConventions::grouped_workspaces, 0, 16, "more of them for grouped products"},
    {"stand_in_gradients", &MemoryConventions::stand_in_gradients, 0, 1, "one kept gradient of each weight shape"},
    {"global_buffer", &MemoryConventions::global_buffer, 0, 1, "one persistent buffer of gathered inputs"},
    {"pipeline_leftovers", &MemoryConventions::pipeline_leftovers, 0, 4, "received tensors that stay"},
    {"hot_expert_excess", &MemoryConventions::hot_expert_excess, 0, 1, "routed rows above balance"},
    {"expert_backward_buffers", &MemoryConventions::expert_backward_buffers, 0, 6, "row buffers of MoE backward"},
    {"data_parallel_buffer", &MemoryConventions::data_parallel_buffer, 0, 6, "bytes of a weight in buckets or gathers"},
    {"pipeline_data_buffer", &MemoryConventions::pipeline_data_buffer, 0, 4, "more of them in a pipeline"},
    {"embedding_gradient_bytes", &MemoryConventions::embedding_gradient_bytes, 0, 10, "bytes of an embedding weight"},
    {"backward_work_factor", &MemoryConventions::backward_work_factor, 0.5, 12, "tensors of a dense backward pass"},
    {"pending_gathers", &MemoryConventions::pending_gathers, 0, 4, "gathered inputs that wait, a layer in flight"},
    {"pending_limit", &MemoryConventions::pending_limit, 0, 1000, "the most of them on a rank"},
    {"run_ahead_micro_batches", &MemoryConventions::run_ahead_micro_batches, 0, 2, "micro-batches more in flight"},
    {"run_ahead_flops", &MemoryConventions::run_ahead_flops, 1e11, 1e14, "FLOPs of a layer that hold half of them"},
    {"reserved_excess", &MemoryConventions::reserved_excess, 0, 0.5, "reserved beyond allocated, a share"},
    {"constant_bytes", &MemoryConventions::constant_bytes, 0, 8e9, "what does not depend on the job"},
    {"context_bytes", &MemoryConventions::context_bytes, 0, 2e10, "device memory outside of the allocator"},
});

}  // namespace mmoe
