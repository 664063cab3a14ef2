#include "train/ops/pair_order.h"

#include <ATen/ops/empty.h>

#include "kernels/combine/combine.h"
#include "kernels/dispatch/dispatch.h"
#include "kernels/gather/gather.h"
#ifdef MMOE_WITH_CUDA
#include "kernels/combine/combine_cuda.h"
#include "kernels/dispatch/dispatch_cuda.h"
#include "kernels/gather/gather_cuda.h"
#endif
#include "train/ops/launch.h"
#include "train/ops/parallel.h"

namespace mmoe {

PairOrder order_pairs(const at::Tensor& indices_TK, int64_t num_experts, int64_t alignment) {
  const int64_t tokens = indices_TK.size(0), top_k = indices_TK.size(1);
  kernels::Dispatch args;
  args.alignment = alignment;
  args.row_capacity = kernels::dispatch_max_rows(tokens, top_k, num_experts, alignment);
  const auto ints = indices_TK.options();
  const at::Tensor counts_E = at::empty({num_experts}, ints.dtype(at::kLong));
  PairOrder order{at::empty({num_experts + 1}, ints.dtype(at::kLong)),
                  at::empty({args.row_capacity}, ints),
                  at::empty({args.row_capacity}, ints),
                  at::empty({tokens, top_k}, ints),
                  {}};
  if (indices_TK.is_meta()) order.stated_offsets = stated_offsets(tokens * top_k, num_experts, alignment);
  args.indices = indices_TK.data_ptr<int32_t>();
  args.counts = counts_E.data_ptr<int64_t>();
  args.expert_offsets = order.offsets_E1.data_ptr<int64_t>();
  args.token_of_row = order.token_of_row.data_ptr<int32_t>();
  args.pair_of_row = order.pair_of_row.data_ptr<int32_t>();
  args.row_of_pair = order.row_of_pair_TK.data_ptr<int32_t>();
  args.num_tokens = tokens;
  args.top_k = top_k;
  args.num_experts = num_experts;
  const at::Tensor workspace = MMOE_WORKSPACE(indices_TK, dispatch, args);
  args.workspace = address(workspace);
  MMOE_LAUNCH(indices_TK, dispatch, args);
  return order;
}

void gather_rows(const at::Tensor& x_TD, const at::Tensor& token_of_row, int64_t first, const at::Tensor& rows_RD) {
  kernels::Gather args;
  args.scalar = kernel_scalar(x_TD);
  args.x = x_TD.data_ptr();
  args.index = token_of_row.data_ptr<int32_t>() + first;
  args.rows = rows_RD.data_ptr();
  args.num_rows = rows_RD.size(0);
  args.size = x_TD.size(1);
  MMOE_LAUNCH(x_TD, gather, args);
}

at::Tensor combine_rows(const at::Tensor& rows_RD, const at::Tensor& row_of_pair_TK, const at::Tensor& base_TD) {
  const at::Tensor out_TD = at::empty({row_of_pair_TK.size(0), rows_RD.size(1)}, rows_RD.options());
  kernels::Combine args;
  args.scalar = kernel_scalar(rows_RD);
  args.rows = rows_RD.data_ptr();
  args.row_of_pair = row_of_pair_TK.data_ptr<int32_t>();
  args.base = address(base_TD);
  args.out = out_TD.data_ptr();
  args.num_tokens = row_of_pair_TK.size(0);
  args.top_k = row_of_pair_TK.size(1);
  args.size = rows_RD.size(1);
  MMOE_LAUNCH(rows_RD, combine, args);
  return out_TD;
}

}  // namespace mmoe
