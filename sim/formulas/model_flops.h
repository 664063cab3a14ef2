#pragma once
// Model FLOPs: what the mathematics of a step needs, whatever the implementation recomputes or pads. One multiply-add
// is two. Only matrix products count, as in Korthikanti et al. 2022 (arXiv:2205.05198), appendix A, and PaLM
// (Chowdhery et al. 2022, arXiv:2204.02311), appendix B; causal attention counts the pairs that the mask leaves.

#include <cstdint>
#include <vector>

#include "sim/config/model_config.h"
#include "sim/units/units.h"

namespace mmoe {

// C[m, n] += A[m, k] B[k, n]: 2 m n k.
Flops matmul_flops(double m, double n, double k);

// Query-key pairs that a causal mask leaves in one sequence, the diagonal included: s (s + 1) / 2.
double causal_pairs(double seq_len);

// Forward FLOPs of one operation over `tokens` tokens.
Flops qkv_flops(const ModelConfig& model, double tokens);
Flops attention_output_flops(const ModelConfig& model, double tokens);
Flops router_flops(const ModelConfig& model, double tokens);
Flops experts_flops(const ModelConfig& model, double pairs);             // pairs = tokens x k
Flops mlp_flops(const ModelConfig& model, double tokens, double width);  // up, with SwiGLU gate, and down projection
Flops head_flops(const ModelConfig& model, double tokens);
// Causal attention of `num_sequences` sequences: Q K^T and P V.
Flops attention_flops(const ModelConfig& model, double seq_len, double num_sequences);

// One depth of multi-token prediction: projection, layer (model.top_k experts) and its own logits.
Flops multi_token_flops(const ModelConfig& model, double seq_len, double num_sequences);

// Forward FLOPs of `num_sequences` sequences: fixed + sum_k * per_k, where sum_k is the sum of k_l over the MoE layers.
struct ForwardFlops {
  Flops fixed;  // everything but the routed experts
  Flops per_k;  // one more active expert in one MoE layer, for all these tokens
  Flops total(double sum_k) const { return fixed + per_k * sum_k; }
};
ForwardFlops forward_flops(const ModelConfig& model, double seq_len, double num_sequences);

// Forward and backward of one optimiser step, no recomputation: three times the forward pass (each product has two in
// the backward pass). `sum_k` is the mean over the step's micro-batches of the sum of k_l over the MoE layers.
Flops model_step_flops(const ModelConfig& model, double seq_len, double global_batch_size, double sum_k);

// Forward FLOPs per token at a given allocation (one k a MoE layer): the FLOP cost that `mmoe allocate` bounds.
Flops allocation_flops_per_token(const ModelConfig& model, double seq_len, const std::vector<int>& k_per_layer);

}  // namespace mmoe
