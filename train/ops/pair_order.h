#pragma once
// The order of (token, slot) pairs by expert, as tensors. Dims: T tokens, K slots, E experts, R rows.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace mmoe {

struct PairOrder {
  at::Tensor offsets_E1;                 // int64 [E + 1]: expert e has rows [offsets[e], offsets[e + 1])
  at::Tensor token_of_row, pair_of_row;  // int32 [R], -1 for padding
  at::Tensor row_of_pair_TK;             // int32, -1 for unused slots
  std::vector<int64_t> stated_offsets;   // of meta tensors, as stated_offsets has them

  // offsets_E1 where the host can read it: on the CPU, and of meta tensors.
  const int64_t* host_offsets() const {
    return offsets_E1.is_meta() ? stated_offsets.data() : offsets_E1.data_ptr<int64_t>();
  }
};

// indices_TK int32, -1 for unused slots. Segments start at multiples of `alignment`. R is what the worst load needs, as
// on CUDA nobody knows the total.
PairOrder order_pairs(const at::Tensor& indices_TK, int64_t num_experts, int64_t alignment);

// rows[r, :] = x_TD[token_of_row[first + r], :], zero for padding.
void gather_rows(const at::Tensor& x_TD, const at::Tensor& token_of_row, int64_t first, const at::Tensor& rows_RD);

// base_TD (or zero, where undefined) + the sum of each token's rows.
at::Tensor combine_rows(const at::Tensor& rows_RD, const at::Tensor& row_of_pair_TK, const at::Tensor& base_TD);

}  // namespace mmoe
