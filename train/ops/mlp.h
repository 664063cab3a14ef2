#pragma once
// The dense SwiGLU feed-forward, of dense layers and of shared experts, added onto the residual stream.
// Dims: T tokens, D hidden size, F hidden size of the feed-forward.

#include <ATen/core/Tensor.h>

#include "train/model/parameters.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {

struct MlpResult {
  at::Tensor out_TD;  // residual + mlp(x)
  at::Tensor x_TD;    // x passed through, for a router that reads it too
};

// gate_up [2F, D], down [D, F]. Keeps x (shared) and gate_up [T, 2F]. `operation` names it in profiles: "mlp" or
// "shared_expert".
MlpResult run_mlp(const at::Tensor& residual_TD, const at::Tensor& x_TD, const Parameter& gate_up,
                  const Parameter& down, const char* operation, Place place);

}  // namespace mmoe
