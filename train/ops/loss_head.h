#pragma once
// Output projection and cross-entropy over chunks of tokens, so that the logits of all tokens never exist at once.
// Dims: T tokens, D hidden size, V vocabulary.

#include <ATen/core/Tensor.h>

#include "train/model/parameters.h"

namespace mmoe {

struct LossHeadResult {
  at::Tensor loss;      // one element: scale * sum of losses_T; call backward() on it with gradient 1
  at::Tensor losses_T;  // nats per token, accumulate type; 0 where the target is ignored
};

// Forms the gradients of x and of the weight in the forward pass, while the logits of a chunk are there; the backward
// pass only hands dx over. targets int32.
LossHeadResult loss_head(const at::Tensor& x_TD, const Parameter& weight_VD, const at::Tensor& targets_T, double scale);

// Losses alone, without any gradient.
at::Tensor token_losses(const at::Tensor& x_TD, const Parameter& weight_VD, const at::Tensor& targets_T);

}  // namespace mmoe
