#pragma once
// Products with a weight, and the accumulation of its gradient.
// Dims: R rows, I inputs, O outputs of the weight.

#include <ATen/core/Tensor.h>

#include "train/model/parameters.h"

namespace mmoe {

// Adds d_out_RO^T x_RI to the weight's gradient, in the accumulate type.
void add_weight_gradient(const Parameter& weight_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI);
// The same with a gradient by itself, contiguous.
void add_weight_gradient(const at::Tensor& grad_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI,
                         GradientSum sum);

// Adds values, whose type may be narrower, to a gradient, contiguous on the CPU.
void add_to_gradient(at::Tensor grad, const at::Tensor& values, GradientSum sum);

// out_RO = x_RI weight_OI^T, written in place.
void product_into(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_OI);

}  // namespace mmoe
