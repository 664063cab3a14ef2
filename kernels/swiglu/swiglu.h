#pragma once
// Gated linear unit of the experts with the routing weight folded in before the down projection (Shazeer 2020,
// arXiv:2002.05202; silu(x) = x / (1 + exp(-x))):
//   a[r, f] = scale[r] * silu(gate[r, f]) * up[r, f],  gate = gate_up[r, :F], up = gate_up[r, F:]
//   scale[r] = weights[pair_of_row[r]]; 0 on padding rows (pair_of_row[r] < 0); 1 where pair_of_row is null
// Dims: R rows, F expert hidden size.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

struct SwigluForward {
  Scalar scalar = Scalar::kFloat32;
  const void* gate_up = nullptr;         // [R, 2F]
  const void* weights = nullptr;         // [pairs] accumulate; unused where pair_of_row is null
  const int32_t* pair_of_row = nullptr;  // [R], or null
  void* a = nullptr;                     // [R, F]
  int64_t num_rows = 0;                  // R
  int64_t expert_hidden_size = 0;        // F
};

// With s = silu(gate), s' = sigmoid(gate) * (1 + gate * (1 - sigmoid(gate))):
//   d_gate = da * scale * up * s';  d_up = da * scale * s;  d_weights[pair_of_row[r]] = sum over f of da * s * up
// Padding rows get zero gradients whatever da and gate_up hold.
struct SwigluBackward {
  Scalar scalar = Scalar::kFloat32;
  const void* da = nullptr;              // [R, F]
  const void* gate_up = nullptr;         // [R, 2F]
  const void* weights = nullptr;         // [pairs] accumulate
  const int32_t* pair_of_row = nullptr;  // [R], or null
  void* d_gate_up = nullptr;             // [R, 2F]; may alias gate_up
  void* d_weights = nullptr;             // [pairs] accumulate, assigned where a row has the pair; null leaves it out
  void* a = nullptr;                     // [R, F]: the forward result again; may alias da; null leaves it out
  int64_t num_rows = 0;                  // R
  int64_t expert_hidden_size = 0;        // F
};

void swiglu_forward_reference(const SwigluForward& args);
void swiglu_forward_cpu(const SwigluForward& args);

void swiglu_backward_reference(const SwigluBackward& args);
void swiglu_backward_cpu(const SwigluBackward& args);

}  // namespace mmoe::kernels
