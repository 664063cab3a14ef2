#pragma once
// Products with a weight, and the accumulation of its gradient.
// Dims: R rows, I inputs, O outputs of the weight.

#include <ATen/core/Tensor.h>

#include "train/model/parameters.h"

namespace mmoe {

// grad_OI += d_out_RO^T x_RI, in the accumulate type. grad_OI contiguous.
void add_weight_gradient(const at::Tensor& grad_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI);

// out_RO = x_RI weight_OI^T, written in place.
void product_into(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_OI);

}  // namespace mmoe
