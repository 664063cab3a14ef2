#pragma once
// Matrix products, and the accumulation of a weight's gradient: LibTorch's, but on CPUs where the kernel of our own is
// faster (sim/memory/cpu_products.h). Dims: R rows, I inputs, O outputs of the weight.

#include <ATen/core/Tensor.h>

#include "train/model/parameters.h"

namespace mmoe {

// Whether products with this tensor are formed by the kernel.
bool by_kernel(const at::Tensor& x);

// x_RI weight_IO, a new tensor.
at::Tensor product(const at::Tensor& x_RI, const at::Tensor& weight_IO);
// The same written in place; out's rows are contiguous.
void product_into(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_IO);

// base_RO + x_RI weight_IO, a new tensor; of base one row may stand for all.
at::Tensor sum_with_product(const at::Tensor& base_RO, const at::Tensor& x_RI, const at::Tensor& weight_IO);
// out += x weight.
void add_product_to(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_IO);

// Adds d_out_RO^T x_RI to the weight's gradient, in the accumulate type.
void add_weight_gradient(const Parameter& weight_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI);
// The same with a gradient by itself, contiguous.
void add_weight_gradient(const at::Tensor& grad_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI,
                         GradientSum sum);

// Adds values, whose type may be narrower, to a gradient, contiguous on the CPU.
void add_to_gradient(at::Tensor grad, const at::Tensor& values, GradientSum sum);

}  // namespace mmoe
