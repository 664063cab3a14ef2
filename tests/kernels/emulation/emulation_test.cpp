#include <gtest/gtest.h>

#include <set>
#include <vector>

#ifdef MMOE_KERNELS_EMULATED
#include <cuda_runtime.h>

#include "kernels/device/launch.h"
#include "kernels/device/reduce.h"

namespace mmoe::kernels {
namespace {

__global__ void write_place(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += static_cast<int>(block * 1000 + thread);
}

TEST(Emulation, RunsEveryThreadOnce) {
  std::vector<int> out(2 * 3 * 2 * 24, 0);
  ASSERT_EQ(launch(write_place, dim3(2, 3, 2), dim3(4, 3, 2), nullptr, out.data()), cudaSuccess);
  for (int i = 0; i < 12 * 24; ++i) EXPECT_EQ(out[static_cast<size_t>(i)], i / 24 * 1000 + i % 24);
}

// Each thread leaves a number and takes its neighbour's: right only with the barrier.
template <bool kWithBarrier>
__global__ void rotate(int* out) {
  __shared__ int shared[64];
  shared[threadIdx.x] = -1;
  __syncthreads();
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (kWithBarrier) __syncthreads();
  out[threadIdx.x] = shared[(threadIdx.x + 1) % 64];
}

int wrong_numbers(void (*kernel)(int*)) {
  std::vector<int> out(64);
  EXPECT_EQ(launch(kernel, dim3(1), dim3(64), nullptr, out.data()), cudaSuccess);
  int wrong = 0;
  for (int i = 0; i < 64; ++i) wrong += out[static_cast<size_t>(i)] != (i + 1) % 64;
  return wrong;
}

TEST(Emulation, AMissingBarrierShows) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    emulation::set_order_seed(seed);
    EXPECT_EQ(wrong_numbers(rotate<true>), 0);
    EXPECT_GT(wrong_numbers(rotate<false>), 0);
  }
}

__global__ void warp_collectives(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  out[threadIdx.x * 6 + 0] = __shfl_sync(kAllLanes, lane * 10, 7);
  out[threadIdx.x * 6 + 1] = __shfl_xor_sync(kAllLanes, lane, 5);
  out[threadIdx.x * 6 + 2] = __shfl_up_sync(kAllLanes, lane, 3u);
  out[threadIdx.x * 6 + 3] = static_cast<int>(__ballot_sync(kAllLanes, lane % 3 == 0));
  out[threadIdx.x * 6 + 4] = static_cast<int>(__match_any_sync(kAllLanes, lane / 8));
  if (lane < 4) out[threadIdx.x * 6 + 5] = __shfl_xor_sync(0xfu, lane, 1);  // a part of the warp
}

TEST(Emulation, WarpCollectives) {
  std::vector<int> out(64 * 6, -1);
  ASSERT_EQ(launch(warp_collectives, dim3(1), dim3(64), nullptr, out.data()), cudaSuccess);
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32, *row = &out[static_cast<size_t>(i * 6)];
    EXPECT_EQ(row[0], 70);
    EXPECT_EQ(row[1], lane ^ 5);
    EXPECT_EQ(row[2], lane < 3 ? lane : lane - 3);
    EXPECT_EQ(static_cast<unsigned>(row[3]), 0x49249249u);
    EXPECT_EQ(static_cast<unsigned>(row[4]), 0xffu << (lane / 8 * 8));
    EXPECT_EQ(row[5], lane < 4 ? lane ^ 1 : -1);
  }
}

__global__ void sum_block(int* out) { out[threadIdx.x] = block_sum<96>(static_cast<int>(threadIdx.x)); }

TEST(Emulation, SumsOverBlocks) {
  std::vector<int> out(96);
  ASSERT_EQ(launch(sum_block, dim3(1), dim3(96), nullptr, out.data()), cudaSuccess);
  for (const int sum : out) EXPECT_EQ(sum, 96 * 95 / 2);
}

__global__ void half_at_barrier() {
  if (threadIdx.x < 16) __syncwarp();
}
__global__ void different_collectives() {
  if (threadIdx.x % 2 == 0) {
    __ballot_sync(kAllLanes, 1);
  } else {
    __shfl_sync(kAllLanes, 1, 0);
  }
}

TEST(Emulation, CollectivesThatNotAllReachFail) {
  EXPECT_EQ(launch(half_at_barrier, dim3(1), dim3(32), nullptr), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(launch(different_collectives, dim3(1), dim3(32), nullptr), cudaErrorLaunchFailure);
  EXPECT_EQ(launch(half_at_barrier, dim3(1), dim3(16), nullptr), cudaSuccess) << "the next launch works again";
  static_cast<void>(cudaGetLastError());
}

TEST(Emulation, RefusesImpossibleBlocksAndSkipsEmptyGrids) {
  EXPECT_EQ(launch(half_at_barrier, dim3(1), dim3(1025), nullptr), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(half_at_barrier, dim3(1, 65536), dim3(1), nullptr), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(half_at_barrier, dim3(0), dim3(32), nullptr), cudaSuccess);
  static_cast<void>(cudaGetLastError());
}

}  // namespace
}  // namespace mmoe::kernels
#else
TEST(Emulation, IsBuilt) { GTEST_SKIP() << "built without the emulation"; }
#endif
