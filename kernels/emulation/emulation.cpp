#include <algorithm>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/emulation/block.h"
#include "kernels/emulation/device.h"

namespace {
cudaError_t last_error = cudaSuccess;
}

namespace mmoe::kernels::emulation {
namespace {

constexpr unsigned kMaxThreadsPerBlock = 1024;

Block* running = nullptr;

std::mt19937_64& order() {
  static std::mt19937_64 generator(0);
  return generator;
}

}  // namespace

const Place& place() { return running->place(); }
unsigned lane() { return running->lane(); }
void sync_block() { running->wait_at_barrier(); }
const WarpValues& exchange(uint32_t mask, WarpOperation operation, uint64_t value) {
  return running->exchange(mask, operation, value);
}
void set_order_seed(uint64_t seed) { order().seed(seed); }

cudaError_t run_grid(dim3 grid, dim3 block, const std::function<void()>& thread) {
  const size_t num_blocks = size_t{1} * grid.x * grid.y * grid.z, num_threads = size_t{1} * block.x * block.y * block.z;
  if (num_blocks == 0 || num_threads == 0 || num_threads > kMaxThreadsPerBlock || grid.y > 65535 || grid.z > 65535) {
    return last_error = cudaErrorInvalidConfiguration;
  }
  std::vector<size_t> blocks(num_blocks);
  for (size_t i = 0; i < num_blocks; ++i) blocks[i] = i;
  std::shuffle(blocks.begin(), blocks.end(), order());
  for (const size_t i : blocks) {
    const dim3 index(static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                     static_cast<unsigned>(i / grid.x / grid.y));
    Block one(grid, block, index, thread, order());
    running = &one;
    const bool finished = one.run();
    running = nullptr;
    if (!finished) return last_error = cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}

}  // namespace mmoe::kernels::emulation

using mmoe::kernels::emulation::WarpOperation;

uint32_t __ballot_sync(uint32_t mask, int predicate) {
  const auto& values = mmoe::kernels::emulation::exchange(mask, WarpOperation::kVote, predicate != 0);
  uint32_t ballot = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if ((mask >> i & 1u) != 0 && values.of_lane[i] != 0) ballot |= 1u << i;
  }
  return ballot;
}

uint32_t __match_any_sync(uint32_t mask, int value) {
  const uint64_t own = static_cast<uint32_t>(value);
  const auto& values = mmoe::kernels::emulation::exchange(mask, WarpOperation::kMatch, own);
  uint32_t match = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if ((mask >> i & 1u) != 0 && values.of_lane[i] == own) match |= 1u << i;
  }
  return match;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    default:
      return "unspecified launch failure";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaMallocManaged(void** pointer, size_t bytes) {
  *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t) {
  std::memset(pointer, value, bytes);
  return cudaSuccess;
}
