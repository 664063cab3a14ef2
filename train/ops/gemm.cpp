#include "train/ops/gemm.h"

#include <ATen/ops/mm.h>

#include "kernels/accumulate/accumulate.h"
#include "train/ops/parallel.h"

namespace mmoe {
namespace {

// LibTorch's add_ would first copy the values into the wider type; on CUDA it does not.
void add_into_wider(at::Tensor grad, const at::Tensor& values) {
  if (!values.is_cpu()) {
    grad.add_(values);
    return;
  }
  kernels::AccumulateValues args;
  args.scalar = kernel_scalar(values);
  args.values = values.data_ptr();
  args.sums = grad.data_ptr();
  args.num_values = values.numel();
  kernels::accumulate_values_cpu(args);
}

}  // namespace

void add_weight_gradient(const at::Tensor& grad_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI) {
  at::Tensor grad = grad_OI;
  if (grad.scalar_type() == x_RI.scalar_type()) {
    grad.addmm_(d_out_RO.t(), x_RI);
  } else {
    add_into_wider(grad, at::mm(d_out_RO.t(), x_RI));
  }
}

void product_into(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_OI) {
  at::mm_out(out_RO, x_RI, weight_OI.t());
}

}  // namespace mmoe
