#pragma once
// What one layer of the trainer allocates and frees, in the order in which it does. Mirrors train/ops and
// train/model/transformer.cpp; tests/train/loop/step_memory_test.cpp compares the two.

#include "sim/config/job.h"
#include "sim/memory/allocation_meter.h"

namespace mmoe {

// Bytes of one micro-batch in one layer at a given k. Peaks stand above the sum of what earlier layers keep; the
// backward peak includes the gradient that comes in and what this layer still keeps.
struct LayerMemory {
  double kept = 0;            // from this layer's forward to its backward pass, its output included
  double kept_attention = 0;  // of `kept`: norm, projections and attention
  BytesByCause forward_peak{}, backward_peak{};
};

// `layer` counts all layers; k is ignored in dense layers. Rows of padded expert segments are taken at their
// expectation.
LayerMemory layer_memory(const Job& job, int64_t layer, int k);

// (token, expert) pairs that come to one rank of several that share the experts: from its expert group, and to all
// ranks that hold parts of the same experts (parallelism.expert_tensor), each of which works on all of these.
struct RoutedPairs {
  double received = 0, gathered = 0;
};
// The same of one such rank.
LayerMemory layer_memory(const Job& job, int64_t layer, int k, RoutedPairs pairs);

// Bytes that one more active expert adds to `kept` in one MoE layer; the same for every layer and k.
double kept_bytes_per_k(const Job& job);

// Tokens of a micro-batch that one rank works on outside of attention: tensor and context parallel ranks share them.
int64_t own_tokens(const Job& job);

// Bytes of the residual stream of one micro-batch: what each layer hands to the next.
double residual_bytes(const Job& job);

// Bytes of an element in the compute type and in the accumulate type.
double compute_bytes(Precision precision);
double accumulate_bytes(Precision precision);

// Bytes above what all layers keep while the loss head runs: final norm, logits of one chunk, gradients.
BytesByCause loss_head_peak(const Job& job);

}  // namespace mmoe
