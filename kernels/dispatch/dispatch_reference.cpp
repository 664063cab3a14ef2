#include <algorithm>

#include "kernels/dispatch/dispatch.h"

namespace mmoe::kernels {

int64_t dispatch_reference(const Dispatch& a) {
  const int64_t pairs = a.num_tokens * a.top_k;
  std::fill(a.token_of_row, a.token_of_row + a.row_capacity, -1);
  std::fill(a.pair_of_row, a.pair_of_row + a.row_capacity, -1);
  std::fill(a.row_of_pair, a.row_of_pair + pairs, -1);
  int64_t row = 0;
  for (int64_t e = 0; e < a.num_experts; ++e) {
    a.expert_offsets[e] = row;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      if (a.indices[pair] != e) continue;
      a.token_of_row[row] = static_cast<int32_t>(pair / a.top_k);
      a.pair_of_row[row] = static_cast<int32_t>(pair);
      a.row_of_pair[pair] = static_cast<int32_t>(row);
      ++row;
    }
    a.counts[e] = row - a.expert_offsets[e];
    row = (row + a.alignment - 1) / a.alignment * a.alignment;
  }
  a.expert_offsets[a.num_experts] = row;
  return row;
}

}  // namespace mmoe::kernels
