#include "kernels/device/counting_sort.h"
#include "kernels/dispatch/dispatch_cuda.h"

namespace mmoe::kernels {
namespace {

struct ExpertOfPair {
  const int32_t* indices;
  __device__ __forceinline__ int operator()(int64_t pair) const { return indices[pair]; }
};

// Writes the three maps between pairs and rows.
struct WriteRow {
  int32_t *token_of_row, *pair_of_row, *row_of_pair;
  int top_k;
  __device__ __forceinline__ void operator()(int64_t pair, int32_t row) const {
    row_of_pair[pair] = row;
    if (row < 0) return;
    pair_of_row[row] = static_cast<int32_t>(pair);
    token_of_row[row] = static_cast<int32_t>(pair / top_k);
  }
};

}  // namespace

size_t dispatch_cuda_workspace_size(const Dispatch& args) {
  return counting_sort_workspace_size(args.num_tokens * args.top_k, args.num_experts);
}

cudaError_t dispatch_cuda(const Dispatch& args, cudaStream_t stream) {
  const size_t bytes = static_cast<size_t>(args.row_capacity) * sizeof(int32_t);
  cudaError_t error = cudaMemsetAsync(args.token_of_row, 0xff, bytes, stream);  // -1 everywhere
  if (error == cudaSuccess) error = cudaMemsetAsync(args.pair_of_row, 0xff, bytes, stream);
  if (error != cudaSuccess) return error;
  const WriteRow sink{args.token_of_row, args.pair_of_row, args.row_of_pair, static_cast<int>(args.top_k)};
  return counting_sort(ExpertOfPair{args.indices}, sink, args.num_tokens * args.top_k,
                       static_cast<int>(args.num_experts), args.alignment, static_cast<int32_t*>(args.workspace),
                       args.counts, args.expert_offsets, stream);
}

}  // namespace mmoe::kernels
