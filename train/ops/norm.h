#pragma once
// RMS normalisation with the residual stream passed through, so that its gradient is added inside the same kernel.

#include <ATen/core/Tensor.h>

#include "train/model/parameters.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {

struct Normed {
  at::Tensor residual_TD;  // x itself
  at::Tensor normed_TD;
};

// Dims: T tokens, D hidden size. Keeps x (shared with the residual stream) and T reciprocal deviations.
// The backward pass overwrites the gradient of residual_TD.
Normed rms_norm(const at::Tensor& x_TD, const Parameter& weight_D, double epsilon, Place place);

}  // namespace mmoe
