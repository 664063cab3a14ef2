#pragma once
// Memory of one optimiser step on one device: what stays, what a draw of k adds, and what it peaks at.

#include <string>
#include <vector>

#include "sim/config/job.h"
#include "sim/memory/layer_memory.h"
#include "sim/units/units.h"

namespace mmoe {

// What is there in every step, from the second on.
struct PersistentMemory {
  Bytes weights;    // in the accumulate type, and in bf16 the compute copy
  Bytes gradients;  // accumulate type
  Bytes optimizer;  // two moments, of weights that are not frozen
  Bytes buffers;    // RoPE tables, the step's tokens and targets
  Bytes total() const { return weights + gradients + optimizer + buffers; }
};
PersistentMemory persistent_memory(const Job& job);

// The peak of one micro-batch with given k, and what it consists of.
struct StepPeak {
  Bytes total;
  Bytes activations, logits, workspace;
  std::string moment;  // "loss head", "layer 3 backward", ...
};
StepPeak step_peak(const Job& job, const std::vector<int>& k_per_layer);

}  // namespace mmoe
