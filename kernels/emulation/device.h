#pragma once
// The CUDA execution model on the host, for testing kernels without a GPU. A block's threads are fibers on one
// operating system thread; they switch at barriers and warp operations only, in an order drawn from a seed, so that a
// missing barrier shows as a wrong result. Blocks run one after another, in a drawn order too.
//
// Not emulated: dynamic shared memory, textures, cooperative groups, concurrency between launches, the weak memory
// model. A collective that not all of its threads reach is reported and ends the launch with cudaErrorLaunchFailure.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "kernels/emulation/runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static  // one block at a time

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace mmoe::kernels::emulation {

// The built-in variables of the thread that runs now.
struct Place {
  dim3 thread_index, block_index, block_size, grid_size;
};
const Place& place();

// Runs `thread` once for every thread of the grid.
cudaError_t run_grid(dim3 grid, dim3 block, const std::function<void()>& thread);

// Seeds the order of threads and blocks of the launches that follow.
void set_order_seed(uint64_t seed);

void sync_block();

// What the lanes of `mask` put in, seen by each of them once all have arrived. `kind` tells operations apart, so that
// lanes which meet in different ones are noticed.
struct WarpValues {
  uint64_t of_lane[32];
};
enum class WarpOperation { kSync, kShuffle, kVote, kMatch };
const WarpValues& exchange(uint32_t mask, WarpOperation operation, uint64_t value);
unsigned lane();

template <class T>
T shuffle(uint32_t mask, T value, unsigned source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  const uint64_t taken = exchange(mask, WarpOperation::kShuffle, word).of_lane[source & 31];
  T result;
  std::memcpy(&result, &taken, sizeof result);
  return result;
}

}  // namespace mmoe::kernels::emulation

#define threadIdx (::mmoe::kernels::emulation::place().thread_index)
#define blockIdx (::mmoe::kernels::emulation::place().block_index)
#define blockDim (::mmoe::kernels::emulation::place().block_size)
#define gridDim (::mmoe::kernels::emulation::place().grid_size)

inline void __syncthreads() { mmoe::kernels::emulation::sync_block(); }
inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  mmoe::kernels::emulation::exchange(mask, mmoe::kernels::emulation::WarpOperation::kSync, 0);
}
template <class T>
T __shfl_sync(uint32_t mask, T value, int source) {
  return mmoe::kernels::emulation::shuffle(mask, value, static_cast<unsigned>(source));
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lane_mask) {
  return mmoe::kernels::emulation::shuffle(mask, value,
                                           mmoe::kernels::emulation::lane() ^ static_cast<unsigned>(lane_mask));
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta) {
  const unsigned own = mmoe::kernels::emulation::lane();
  return mmoe::kernels::emulation::shuffle(mask, value, own < delta ? own : own - delta);
}
uint32_t __ballot_sync(uint32_t mask, int predicate);
uint32_t __match_any_sync(uint32_t mask, int value);
inline int __popc(uint32_t word) { return __builtin_popcount(word); }
inline int __ffs(int word) { return __builtin_ffs(word); }

// Threads switch at collectives only, so plain arithmetic is atomic.
template <class T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = static_cast<T>(old + value);
  return old;
}
