#pragma once
// What a framework keeps in memory: its conventions, read from its file, and few fitted constants.

#include <array>

#include "sim/framework/time_parameters.h"

namespace mmoe {

// Bytes unless said otherwise. Weights in the compute precision, 2 bytes, are common to all.
struct MemoryConventions {
  double master_and_moments = 12;      // optimiser, each weight: fp32 copy and two moments
  double extra_gradient_bytes = 0;     // of each weight, beside the gradients that micro-batches are added into
  double logit_bytes = 6;              // of each logit at the loss
  double workspace_bytes = 0;          // of matrix libraries, constant
  double grouped_workspace_bytes = 0;  // more of it with grouped products
  double constant_bytes = 0;           // all else that does not depend on the job
  double context_bytes = 1e9;          // outside of the allocator: context, NCCL
};

inline constexpr std::array kMemoryConventionDefinitions = std::to_array<NumberDefinition<MemoryConventions>>({
    {"master_and_moments", &MemoryConventions::master_and_moments, 2, 20, "optimiser bytes of a weight"},
    {"extra_gradient_bytes", &MemoryConventions::extra_gradient_bytes, 0, 8, "further gradient bytes of a weight"},
    {"logit_bytes", &MemoryConventions::logit_bytes, 2, 16, "bytes of a logit at the loss"},
    {"workspace_bytes", &MemoryConventions::workspace_bytes, 0, 4e9, "workspaces of matrix libraries"},
    {"grouped_workspace_bytes", &MemoryConventions::grouped_workspace_bytes, 0, 4e9, "more of them for experts"},
    {"constant_bytes", &MemoryConventions::constant_bytes, 0, 8e9, "what else does not depend on the job"},
    {"context_bytes", &MemoryConventions::context_bytes, 0, 2e10, "device memory outside of the allocator"},
});

}  // namespace mmoe
