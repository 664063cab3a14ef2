#include "train/ops/meta_kernels.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "sim/units/errors.h"
#include "train/ops/parallel.h"
#include "train/ops/stand_in.h"

namespace mmoe {
namespace {

at::Tensor index_select(const at::Tensor& self, int64_t dim, const at::Tensor& index) {
  std::vector<int64_t> shape = self.sizes().vec();
  shape[static_cast<size_t>(dim < 0 ? dim + self.dim() : dim)] = index.numel();
  return at::empty(shape, self.options());
}

at::Tensor repeat_interleave(const at::Tensor& repeats, std::optional<int64_t> output_size) {
  MMOE_CHECK(output_size) << "repeat_interleave of meta tensors needs its output's size";
  return at::empty({*output_size}, repeats.options());
}

// Groups along the rows of `self`, or where both are matrices along what is summed. As LibTorch's, rows of the result
// begin at multiples of 16 bytes.
at::Tensor grouped_mm(const at::Tensor& self, const at::Tensor& mat2, const std::optional<at::Tensor>& offsets,
                      const std::optional<at::Tensor>& /*bias*/, std::optional<at::ScalarType> out_type) {
  MMOE_CHECK(self.dim() == 2 && offsets) << self.dim();
  const bool by_rows = mat2.dim() == 3;
  const int64_t groups = offsets->size(0), rows = self.size(0), columns = mat2.size(-1);
  const auto options = self.options().dtype(out_type.value_or(self.scalar_type()));
  const auto multiple = static_cast<int64_t>(16 / options.dtype().itemsize());
  const int64_t stride = (columns + multiple - 1) / multiple * multiple;
  return by_rows ? at::empty_strided({rows, columns}, {stride, 1}, options)
                 : at::empty_strided({groups, rows, columns}, {rows * stride, stride, 1}, options);
}

// Scratch memory of LibTorch's CPU flash attention (FlashAttentionKernel.cpp): for each thread a tile of scores, their
// maxima and sums, and a tile of the result. Backward, on GPUs: what cuDNN sums in fp32, the gradient of the queries
// and a number for each row of scores (as in a memory snapshot of an H200).
at::Tensor attention_scratch(const at::Tensor& query, bool backward) {
  const auto options = query.options().dtype(accumulate_type(query.scalar_type()));
  const int64_t seq_len = query.size(2), head_dim = query.size(3);
  if (stand_in().is_gpu) {
    const bool sums = backward && options.dtype() != query.dtype();
    return at::empty({sums ? query.size(0) * query.size(1) * seq_len * (head_dim + 1) : 0}, options);
  }
  const int64_t rows = std::min<int64_t>(seq_len, seq_len >= 768 ? 256 : seq_len >= 192 ? 64 : 32);
  const int64_t columns = std::min<int64_t>(seq_len, 512);
  return at::empty({at::get_num_threads(), rows * (columns + 2 + head_dim)}, options);
}

// [B, heads, S, h] as a view of memory [B, S, heads, h], which is how the fused kernels lay out their results.
at::Tensor by_position(const at::Tensor& like) {
  return at::empty({like.size(0), like.size(2), like.size(1), like.size(3)}, like.options()).transpose(1, 2);
}

std::tuple<at::Tensor, at::Tensor> flash_attention(const at::Tensor& query, const at::Tensor& /*key*/,
                                                   const at::Tensor& /*value*/, double /*dropout*/, bool /*causal*/,
                                                   const std::optional<at::Tensor>& /*mask*/,
                                                   std::optional<double> /*scale*/) {
  const at::Tensor out = by_position(query);
  const at::Tensor log_sum_exp = at::empty({query.size(0), query.size(1), query.size(2)},
                                           query.options().dtype(accumulate_type(query.scalar_type())));
  const at::Tensor scratch = attention_scratch(query, /*backward=*/false);
  return {out, log_sum_exp};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> flash_attention_backward(
    const at::Tensor& /*d_out*/, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& /*out*/, const at::Tensor& /*log_sum_exp*/, double /*dropout*/, bool /*causal*/,
    const std::optional<at::Tensor>& /*mask*/, std::optional<double> /*scale*/) {
  const at::Tensor d_query = by_position(query), d_key = by_position(key), d_value = by_position(value);
  const at::Tensor scratch = attention_scratch(query, /*backward=*/true);
  return {d_query, d_key, d_value};
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const std::optional<at::Tensor>& mask, double dropout, bool causal, std::optional<double> scale,
                     bool /*enable_gqa*/) {
  return std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout, causal, mask, scale));
}

// Of an elementwise operator that keeps the shape.
at::Tensor& elementwise_out(const at::Tensor& self, at::Tensor& out) {
  out.resize_(self.sizes());
  return out;
}

void fused_adamw(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList, double,
                 double, double, double, double, bool, bool, const std::optional<at::Tensor>&,
                 const std::optional<at::Tensor>&) {}

}  // namespace

void install_meta_kernels() {
  static const auto meta = [] {
    torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    library.impl("abs.out", elementwise_out);
    library.impl("logical_not.out", elementwise_out);
    library.impl("index_select", index_select);
    library.impl("repeat_interleave.Tensor", repeat_interleave);
    library.impl("_grouped_mm", grouped_mm);
    library.impl("_scaled_dot_product_flash_attention_for_cpu", flash_attention);
    library.impl("_scaled_dot_product_flash_attention_for_cpu_backward", flash_attention_backward);
    library.impl("scaled_dot_product_attention", attention);
    library.impl("_fused_adamw_", fused_adamw);
    return library;
  }();
  static const auto recorded = [] {
    torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::AutogradMeta, __FILE__, __LINE__);
    library.impl("scaled_dot_product_attention", attention);
    return library;
  }();
}

}  // namespace mmoe
