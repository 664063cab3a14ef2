#pragma once
// Sums over the threads of a warp, a row and a block, in an order that depends on the sizes alone. Every thread gets
// the result. All threads of the warp (the block) must call.

#include "kernels/device/launch.h"

namespace mmoe::kernels {

inline constexpr unsigned kAllLanes = 0xffffffffu;

template <class A>
__device__ __forceinline__ A warp_sum(A value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

template <class A>
__device__ __forceinline__ A warp_max(A value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const A other = __shfl_xor_sync(kAllLanes, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// Sum over a one-dimensional block of kThreads threads. May be called again at once.
template <int kThreads, class A>
__device__ __forceinline__ A block_sum(A value) {
  __shared__ A of_warp[kThreads / kWarp];
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = value;
  __syncthreads();
  A sum = 0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) sum += of_warp[w];
  __syncthreads();
  return sum;
}

// Sum over the kThreads threads of a row: a warp, or the block.
template <int kThreads, class A>
__device__ __forceinline__ A row_sum(A value) {
  if constexpr (kThreads == kWarp) {
    return warp_sum(value);
  } else {
    return block_sum<kThreads>(value);
  }
}

}  // namespace mmoe::kernels
