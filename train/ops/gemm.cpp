#include "train/ops/gemm.h"

#include <ATen/ops/mm.h>

namespace mmoe {

void add_weight_gradient(const at::Tensor& grad_OI, const at::Tensor& d_out_RO, const at::Tensor& x_RI) {
  at::Tensor grad = grad_OI;
  if (grad.scalar_type() == x_RI.scalar_type()) {
    grad.addmm_(d_out_RO.t(), x_RI);
  } else {
    grad.add_(at::mm(d_out_RO.t(), x_RI));
  }
}

void product_into(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_OI) {
  at::mm_out(out_RO, x_RI, weight_OI.t());
}

}  // namespace mmoe
