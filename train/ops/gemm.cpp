#include "train/ops/gemm.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "kernels/accumulate/accumulate.h"
#include "kernels/matrix_product/matrix_product.h"
#include "sim/memory/cpu_products.h"
#include "train/ops/parallel.h"
#include "train/ops/stand_in.h"

namespace mmoe {
namespace {

// Of fewer rows, as generation has them, the kernel would widen more than it multiplies.
constexpr int64_t kLeastKernelRows = 4;

bool product_by_kernel(const at::Tensor& x) { return by_kernel(x) && x.size(0) >= kLeastKernelRows; }

// The matrix with contiguous rows or columns: itself, or a copy.
at::Tensor plain(const at::Tensor& matrix) {
  return matrix.stride(0) == 1 || matrix.stride(1) == 1 ? matrix : matrix.contiguous();
}
kernels::MatrixView kernel_matrix(const at::Tensor& matrix) {
  return {matrix.data_ptr(), matrix.stride(0), matrix.stride(1)};
}

// Runs the kernel on a_MK b_KN with what `set` adds to its arguments.
template <class Set>
void run_kernel(const at::Tensor& a_MK, const at::Tensor& b_KN, const Set& set) {
  if (a_MK.is_meta()) return;
  const at::Tensor a = plain(a_MK), b = plain(b_KN);
  kernels::MatrixProduct args;
  args.scalar = kernel_scalar(a);
  args.a = kernel_matrix(a);
  args.b = kernel_matrix(b);
  args.num_rows = a.size(0);
  args.num_columns = b.size(1);
  args.depth = a.size(1);
  set(args);
  kernels::matrix_product_cpu(args);
}

// out = base + x weight; without a base zero stands for it.
void write_product(const at::Tensor& out, const at::Tensor& base, const at::Tensor& x, const at::Tensor& weight) {
  run_kernel(x, weight, [&](kernels::MatrixProduct& args) {
    args.out = out.data_ptr();
    args.out_stride = out.stride(0);
    if (!base.defined()) return;
    args.base = base.data_ptr();
    args.base_stride = base.stride(0);
  });
}

at::Tensor empty_product(const at::Tensor& x, const at::Tensor& weight) {
  return at::empty({x.size(0), weight.size(1)}, x.options());
}

}  // namespace

bool by_kernel(const at::Tensor& x) {
  if (runs_on_gpu(x)) return false;
  if (x.scalar_type() == at::kBFloat16) return cpu_bf16_products() == CpuProducts::kKernel;
  return x.scalar_type() == at::kFloat && cpu_fp32_products() == CpuProducts::kKernel;
}

at::Tensor product(const at::Tensor& x_RI, const at::Tensor& weight_IO) {
  if (!product_by_kernel(x_RI)) return at::mm(x_RI, weight_IO);
  const at::Tensor out = empty_product(x_RI, weight_IO);
  write_product(out, {}, x_RI, weight_IO);
  return out;
}

void product_into(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_IO) {
  product_by_kernel(x_RI) ? write_product(out_RO, {}, x_RI, weight_IO) : void(at::mm_out(out_RO, x_RI, weight_IO));
}

at::Tensor sum_with_product(const at::Tensor& base_RO, const at::Tensor& x_RI, const at::Tensor& weight_IO) {
  if (!product_by_kernel(x_RI)) return at::addmm(base_RO, x_RI, weight_IO);
  const at::Tensor out = empty_product(x_RI, weight_IO), base = base_RO.expand(out.sizes());
  write_product(out, base.stride(1) == 1 ? base : base.contiguous(), x_RI, weight_IO);
  return out;
}

void add_product_to(at::Tensor out_RO, const at::Tensor& x_RI, const at::Tensor& weight_IO) {
  product_by_kernel(x_RI) ? write_product(out_RO, out_RO, x_RI, weight_IO) : void(out_RO.addmm_(x_RI, weight_IO));
}

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
  if (by_kernel(x_RI)) {
    run_kernel(d_out_RO.t(), x_RI, [&](kernels::MatrixProduct& args) {
      args.sums = grad.data_ptr<float>();
      args.sums_stride = grad.stride(0);
      args.begins = sum == GradientSum::kBegin;
    });
  } else if (grad.scalar_type() != x_RI.scalar_type()) {
    add_to_gradient(grad, at::mm(d_out_RO.t(), x_RI), sum);
  } else if (sum == GradientSum::kBegin) {
    at::mm_out(grad, d_out_RO.t(), x_RI);
  } else {
    grad.addmm_(d_out_RO.t(), x_RI);
  }
}

}  // namespace mmoe
