#pragma once
// The routed experts of an MoE layer, added onto the residual stream: dropless dispatch by sorting, grouped GEMMs,
// SwiGLU with the routing weight folded in before the down projection. Dims: T tokens, D hidden size, E experts, F
// expert hidden size, K slots a token, R rows (pairs, with padding).

#include <ATen/core/Tensor.h>

#include "sim/config/training_config.h"
#include "train/model/parameters.h"
#include "train/ops/router.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {

struct ExpertWeights {
  const Parameter* gate_up = nullptr;  // [E, 2F, D], gate rows first
  const Parameter* down = nullptr;     // [E, D, F]
};

// Rows at whose multiples an expert's segment starts: cpu_segment_rows on the CPU, 8 on CUDA (16-byte aligned columns
// of the weight gradient's operands).
int64_t segment_alignment(at::ScalarType type, bool is_cuda);

// residual_TD + sum over a token's experts. Only experts that were drawn are computed. Keeps x (shared with the
// router), the order of the rows and, by `saving`: gate_up [R, 2F]; beside it the gathered input [R, D] and the
// activation [R, F]; or none of them. The backward pass gathers and recomputes what is missing; gradients are the same
// bit for bit.
at::Tensor run_experts(const at::Tensor& residual_TD, const Routing& routing, const ExpertWeights& weights, Place place,
                       ExpertSaving saving = ExpertSaving::kLean);

// The same from the routing's tensors, which may be those of rows that came from other ranks.
at::Tensor run_experts(const at::Tensor& residual_TD, const at::Tensor& x_TD, const at::Tensor& weights_TK,
                       const at::Tensor& indices_TK, const ExpertWeights& weights, Place place,
                       ExpertSaving saving = ExpertSaving::kLean);

}  // namespace mmoe
