#pragma once
// Order of the (token, slot) pairs by expert: a counting sort, stable in the token. Dims: T tokens, K slots, E experts.
//   segment e = rows [expert_offsets[e], expert_offsets[e + 1]): first counts[e] rows, one for each pair (t, j) with
//   indices[t, j] = e in ascending t * K + j, then padding up to the next multiple of `alignment`
// Pairs with an index outside [0, E) get no row.

#include <cstddef>
#include <cstdint>

namespace mmoe::kernels {

struct Dispatch {
  const int32_t* indices = nullptr;   // [T, K]; -1 for an unused slot
  int64_t* counts = nullptr;          // [E]: pairs of each expert
  int64_t* expert_offsets = nullptr;  // [E + 1], each a multiple of alignment; the last is the padded total
  int32_t* token_of_row = nullptr;    // [row_capacity]: token, -1 for padding and from the padded total on
  int32_t* pair_of_row = nullptr;     // [row_capacity]: t * K + j, likewise -1
  int32_t* row_of_pair = nullptr;     // [T, K]: -1 for an unused slot
  int64_t num_tokens = 0, top_k = 0, num_experts = 0;
  int64_t alignment = 1;
  int64_t row_capacity = 0;   // at least the padded total; dispatch_max_rows always suffices
  void* workspace = nullptr;  // CPU: may be null; CUDA: dispatch_cuda_workspace_size bytes
};

// The largest padded total over all indices: every pair has a row, every expert in use almost a whole padding.
constexpr int64_t dispatch_max_rows(int64_t num_tokens, int64_t top_k, int64_t num_experts, int64_t alignment) {
  const int64_t pairs = num_tokens * top_k, segments = pairs < num_experts ? pairs : num_experts;
  return (pairs + segments * (alignment - 1)) / alignment * alignment;
}

// Both return the padded total, expert_offsets[E].
int64_t dispatch_reference(const Dispatch& args);
int64_t dispatch_cpu(const Dispatch& args);

// Bytes of `workspace`: one count for each expert and each of at most 32 ranges of tokens.
size_t dispatch_cpu_workspace_size(const Dispatch& args);

}  // namespace mmoe::kernels
