#pragma once
// The router of an MoE layer: softmax, top-k, auxiliary losses.
// Dims: T tokens, D hidden size, E experts, K slots a token.

#include <ATen/core/Tensor.h>

#include "kernels/router/router.h"
#include "train/model/parameters.h"
#include "train/parallel/communicator.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {

struct RouterSettings {
  int64_t top_k = 1;
  kernels::GateNormalization normalization = kernels::GateNormalization::kNone;
  int64_t k_reference = 0;
  double top_p = 0;  // 0: every token selects top_k experts
  // Of the auxiliary losses in this micro-batch's gradient, so already divided by the number of micro-batches.
  double load_balance_coefficient = 0, z_loss_coefficient = 0;
  bool measure_entropy = false;
  // The ranks that route equal parts of the micro-batch's tokens; null: none. Counts, losses and the entropy are those
  // of all of them.
  const Communicator* ranks = nullptr;
};

struct Routing {
  at::Tensor x_TD;                       // the router's input passed through; its gradient is added to in place
  at::Tensor weights_TK;                 // accumulate type
  at::Tensor indices_TK;                 // int32, -1 for unused slots
  at::Tensor counts_E;                   // int64: selections of each expert
  at::Tensor load_balance_loss, z_loss;  // one element each, without coefficients, not differentiable
  at::Tensor entropy;                    // of the softmax, mean over tokens, nats; undefined unless asked for
};

// Logits are formed in the accumulate type. Keeps x, the probabilities [T, E], weights, indices and log-sum-exp.
// Auxiliary losses enter the gradient here; they are not part of any loss that is returned.
Routing route(const at::Tensor& x_TD, const Parameter& weight_ED, const RouterSettings& settings, Place place);

}  // namespace mmoe
