#pragma once
// The top-k router of an MoE layer, from logits on. Dims: T tokens, E experts (<= 512), K slots a token (<= 64).
//   p[t, :] = softmax(logits[t, :]);  i_1, i_2, ... = experts by descending logit, of equal ones the lower index first
//   weight[t, j] = p[t, i_j] / norm:  kNone norm = 1;  kSelected norm = sum of the selected p;
//                                     kReference norm = sum of the k_reference largest p (k_reference <, = or > K)
// Top-p (top_p > 0): token t selects the least number of experts whose cumulative probability is >= top_p, at most K;
// unused slots have index -1 and weight 0.
// Auxiliary losses (Switch Transformers, arXiv:2101.03961 eq. 4; ST-MoE, arXiv:2202.08906 eq. 5):
//   load_balance_loss = E * sum over e of f_e P_e,  f_e = counts_e / sum of counts,  P_e = mean over t of p[t, e]
//   z_loss = mean over t of logsumexp(logits[t, :])^2
// A NaN or +inf logit, or a token with all logits -inf, makes that token's probabilities and weights and both losses
// NaN; the token then selects experts 0, 1, ..., K - 1.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

inline constexpr int64_t kMaxExperts = 512;
inline constexpr int64_t kMaxTopK = 64;

enum class GateNormalization { kNone, kSelected, kReference };

struct RouterForward {
  Scalar scalar = Scalar::kFloat32;   // of all floating-point arrays: kFloat32 or kFloat64
  const void* logits = nullptr;       // [T, E]
  void* probabilities = nullptr;      // [T, E]; may alias logits
  int32_t* indices = nullptr;         // [T, K]
  void* weights = nullptr;            // [T, K]
  int32_t* num_selected = nullptr;    // [T], or null
  void* log_sum_exp = nullptr;        // [T]
  int64_t* counts = nullptr;          // [E]: selections of each expert
  void* mean_probability = nullptr;   // [E]: P_e
  void* load_balance_loss = nullptr;  // [1]
  void* z_loss = nullptr;             // [1]
  int64_t num_tokens = 0, num_experts = 0, top_k = 0;
  GateNormalization normalization = GateNormalization::kNone;
  int64_t k_reference = 0;    // for kReference: 1 to min(E, 64)
  double top_p = 0;           // 0: every token selects K experts
  void* workspace = nullptr;  // CPU: may be null; CUDA: router_forward_cuda_workspace_size bytes
};

// d_logits[t, e] = p_e * (dp_e - sum over m of p_m dp_m) + z_loss_coefficient * 2 / N * log_sum_exp[t] * p_e,  where
// dp_e holds the gradient through the weights plus load_balance_coefficient * E * f_e / N (through P_e only).
struct RouterBackward {
  Scalar scalar = Scalar::kFloat32;
  const void* probabilities = nullptr;  // [T, E]  from the forward pass, as are the next four
  const int32_t* indices = nullptr;     // [T, K]
  const void* weights = nullptr;        // [T, K]
  const void* log_sum_exp = nullptr;    // [T]
  const int64_t* counts = nullptr;      // [E]; where the loss spans ranks, their sum
  const void* d_weights = nullptr;      // [T, K]; ignored where the index is -1
  void* d_logits = nullptr;             // [T, E]; may alias probabilities
  int64_t num_tokens = 0, num_experts = 0, top_k = 0;
  int64_t num_tokens_in_mean = 0;  // N of the two means; 0 means num_tokens (larger where the losses span ranks)
  GateNormalization normalization = GateNormalization::kNone;
  int64_t k_reference = 0;
  double load_balance_coefficient = 0, z_loss_coefficient = 0;  // times whatever scales the loss
};

void router_forward_reference(const RouterForward& args);
void router_forward_cpu(const RouterForward& args);

void router_backward_reference(const RouterBackward& args);
void router_backward_cpu(const RouterBackward& args);

// Bytes of `workspace`: partial counts, probabilities and losses for each of at most 32 ranges of tokens.
size_t router_forward_cpu_workspace_size(const RouterForward& args);

}  // namespace mmoe::kernels
