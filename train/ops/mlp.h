#pragma once
// The dense SwiGLU feed-forward, of dense layers and of shared experts, added onto the residual stream.
// Dims: T tokens, D hidden size, F hidden size of the feed-forward. Tensor parallel ranks hold equal parts of F and,
// outside of it, of the tokens.

#include <ATen/core/Tensor.h>

#include "train/model/parameters.h"
#include "train/parallel/communicator.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {

struct MlpWeights {
  const Parameter *gate_up = nullptr, *down = nullptr;  // [2F, D] and [D, F]
  // [1, D] or null: each token's result is multiplied by sigmoid(x gate^T) (Qwen2-MoE's shared expert). Qwen team 2024,
  // arXiv:2407.10671, section 2.2.2.
  const Parameter* gate = nullptr;
  const Communicator* tensor = nullptr;  // the ranks that hold the other parts; null: none
};

struct MlpResult {
  at::Tensor out_TD;  // residual + mlp(x)
  at::Tensor x_TD;    // x passed through, for a router that reads it too
};

// Of this rank's tokens [T / ranks, D]. Keeps x (shared), gate_up [T, 2F] and, with a gate, T numbers and T indices.
// `operation` names it in profiles: "mlp" or "shared_expert".
MlpResult run_mlp(const at::Tensor& residual_TD, const at::Tensor& x_TD, const MlpWeights& weights,
                  const char* operation, Place place);

}  // namespace mmoe
