#pragma once
// A router's inputs, outputs and arguments of both passes, for its tests.

#include "kernels/router/router.h"
#include "tests/kernels/kernel_testing.h"

namespace mmoe::kernels {

struct RouterProblem {
  Scalar scalar;
  int64_t T, E, K;
  GateNormalization normalization = GateNormalization::kNone;
  int64_t k_reference = 0;
  double top_p = 0;
  Array logits = Array::normal(scalar, T* E, 1, 2);
  Array probabilities{scalar, T*E}, weights{scalar, T*K, 9}, log_sum_exp{scalar, T};
  Array mean_probability{scalar, E, 9}, load_balance_loss{scalar, 1}, z_loss{scalar, 1};
  Array d_weights = Array::normal(scalar, T*K, 2), d_logits{scalar, T*E};
  SharedVector<int32_t> indices = SharedVector<int32_t>(static_cast<size_t>(T * K), -9);
  SharedVector<int32_t> num_selected = SharedVector<int32_t>(static_cast<size_t>(T), -9);
  SharedVector<int64_t> counts = SharedVector<int64_t>(static_cast<size_t>(E), -9);

  RouterForward forward() {
    return {.scalar = scalar,
            .logits = logits.data(),
            .probabilities = probabilities.data(),
            .indices = indices.data(),
            .weights = weights.data(),
            .num_selected = num_selected.data(),
            .log_sum_exp = log_sum_exp.data(),
            .counts = counts.data(),
            .mean_probability = mean_probability.data(),
            .load_balance_loss = load_balance_loss.data(),
            .z_loss = z_loss.data(),
            .num_tokens = T,
            .num_experts = E,
            .top_k = K,
            .normalization = normalization,
            .k_reference = k_reference,
            .top_p = top_p};
  }
  RouterBackward backward(double load_balance_coefficient = 0.7, double z_loss_coefficient = 0.3) {
    return {.scalar = scalar,
            .probabilities = probabilities.data(),
            .indices = indices.data(),
            .weights = weights.data(),
            .log_sum_exp = log_sum_exp.data(),
            .counts = counts.data(),
            .d_weights = d_weights.data(),
            .d_logits = d_logits.data(),
            .num_tokens = T,
            .num_experts = E,
            .top_k = K,
            .normalization = normalization,
            .k_reference = k_reference,
            .load_balance_coefficient = load_balance_coefficient,
            .z_loss_coefficient = z_loss_coefficient};
  }
};

// Every way of weighting: normalisations, references below, at and above K, top-p with few, some and all experts.
inline std::vector<RouterProblem> router_variants(Scalar scalar, int64_t T, int64_t E, int64_t K) {
  std::vector<RouterProblem> variants;
  for (const double top_p : {0.0, 1e-6, 0.6, 1.0}) {
    variants.push_back({scalar, T, E, K, GateNormalization::kNone, 0, top_p});
    variants.push_back({scalar, T, E, K, GateNormalization::kSelected, 0, top_p});
    for (const int64_t k_reference : {int64_t{1}, (K + 1) / 2, std::min<int64_t>({K + 3, E, 64})}) {
      variants.push_back({scalar, T, E, K, GateNormalization::kReference, k_reference, top_p});
    }
  }
  return variants;
}

}  // namespace mmoe::kernels
