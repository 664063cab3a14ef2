#pragma once
// Causal self-attention within sequences that lie one after another, after Dao et al. 2022 (arXiv:2205.14135): no score
// outlives its tile. For the head's query, key and value q, k, v and scale = 1 / sqrt(h):
//   p[i, j] = exp(scale * q[i] . k[j] - log_sum_exp[i]) for j <= i,  out[i] = sum over j of p[i, j] * v[j]
// log_sum_exp[i] being that of the scaled scores of row i. Queries have H heads, keys and values G; H / G heads share
// one. Dims: T tokens, h elements a head. A row of qkv holds the H heads of the query, G of the key, G of the value.
// On the CPU the operands of products are of bf16 rounded probabilities and gradients of scores where the processor has
// fast dot products of bf16, and are in fp32 elsewhere; all sums are in fp32.

#include <cstdint>

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

inline constexpr int64_t kMostHeadDim = 256;  // of the CPU version

struct AttentionShapes {
  Scalar scalar = Scalar::kFloat32;  // kFloat64 by the reference alone
  const int64_t* starts = nullptr;   // [num_sequences + 1]: first tokens, and T
  int64_t num_sequences = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
};

struct AttentionForward {
  AttentionShapes shapes;
  const void* qkv = nullptr;    // [T, (H + 2G) h]
  void* out = nullptr;          // [T, H h]
  void* log_sum_exp = nullptr;  // [H, T] accumulate
};

//   d_v[j] = sum over i of p[i, j] * d_out[i],  d_p[i, j] = d_out[i] . v[j]
//   d_s[i, j] = scale * p[i, j] * (d_p[i, j] - d_out[i] . out[i])
//   d_q[i] = sum over j of d_s[i, j] * k[j],  d_k[j] = sum over i of d_s[i, j] * q[i]
// Sums over the heads that share a key run over all of them.
struct AttentionBackward {
  AttentionShapes shapes;
  const void* qkv = nullptr;          // [T, (H + 2G) h]
  const void* out = nullptr;          // [T, H h]
  const void* log_sum_exp = nullptr;  // [H, T] accumulate
  const void* d_out = nullptr;        // [T, H h]
  void* d_qkv = nullptr;              // [T, (H + 2G) h], written
};

void attention_forward_reference(const AttentionForward& args);
void attention_forward_cpu(const AttentionForward& args);

void attention_backward_reference(const AttentionBackward& args);
void attention_backward_cpu(const AttentionBackward& args);

}  // namespace mmoe::kernels
