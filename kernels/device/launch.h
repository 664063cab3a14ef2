#pragma once
// The one place where kernels are launched, and the shape of launches over rows. Included by .cu files only.

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

namespace mmoe::kernels {

// Launches `kernel` on every thread of the grid, asynchronously on `stream`; an empty grid launches nothing.
template <class... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
                   std::type_identity_t<Parameters>... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
#ifdef __CUDACC__
  kernel<<<grid, block, 0, stream>>>(arguments...);
  return cudaGetLastError();
#else
  static_cast<void>(stream);
  return emulation::run_grid(grid, block, [&] { kernel(arguments...); });
#endif
}

inline constexpr int kThreadsPerBlock = 256;

// ceil(count / per_block) blocks.
inline unsigned num_blocks(int64_t count, int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

// Rows are worked on by a warp each, or, where they are long, by a block each: threadIdx.x strides over the row's
// packs, threadIdx.y tells the rows of a block apart.
inline constexpr int kWarp = 32;
inline constexpr int64_t kLongRow = 1024;  // packs from which on a row gets a block

inline dim3 row_block(int threads_per_row) {
  return dim3(static_cast<unsigned>(threads_per_row), static_cast<unsigned>(kThreadsPerBlock / threads_per_row));
}
inline dim3 row_grid(int64_t num_rows, int threads_per_row) {
  return dim3(num_blocks(num_rows, kThreadsPerBlock / threads_per_row));
}
// The row of this thread, which may lie behind the last one.
__device__ __forceinline__ int64_t row_of_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}

}  // namespace mmoe::kernels
