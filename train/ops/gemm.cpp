#include "train/ops/gemm.h"

#include <ATen/ops/mm.h>

#include "kernels/accumulate/accumulate.h"
#include "train/ops/parallel.h"

namespace mmoe {

// LibTorch's add_ would first copy the values into the wider type; on CUDA it does not.
void add_to_gradient(at::Tensor grad, const at::Tensor& values, GradientSum sum) {
  if (!values.is_cpu()) {
    sum == GradientSum::kBegin ? grad.copy_(values) : grad.add_(values);
    return;
  }
  kernels::AccumulateValues args;
  args.scalar = kernel_scalar(values);
  args.values = values.data_ptr();
  args.sums = grad.data_ptr();
  args.num_values = values.numel();
  args.begins = sum == GradientSum::kBegin;
  kernels::accumulate_values_cpu(args);
}

void add_weight_gradient(const Parameter& weight_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI) {
  add_weight_gradient(weight_OI.grad, d_out_RO, x_RI, next_sum(weight_OI));
}

void add_weight_gradient(const at::Tensor& grad_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI,
                         GradientSum sum) {
  at::Tensor grad = grad_OI;
  if (grad.scalar_type() != x_RI.scalar_type()) {
    add_to_gradient(grad, at::mm(d_out_RO.t(), x_RI), sum);
  } else if (sum == GradientSum::kBegin) {
    at::mm_out(grad, d_out_RO.t(), x_RI);
  } else {
    grad.addmm_(d_out_RO.t(), x_RI);
  }
}

void product_into(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_OI) {
  at::mm_out(out_RO, x_RI, weight_OI.t());
}

}  // namespace mmoe
