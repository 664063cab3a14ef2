#pragma once
// Stable counting sort of n items into at most 512 buckets, without atomics on what decides the order: the items are
// cut into chunks of one warp each; chunks are counted, a scan gives every chunk and bucket its first place, and each
// warp then places its chunk in order.

#include <cstdint>

#include "kernels/device/launch.h"
#include "kernels/device/reduce.h"

namespace mmoe::kernels {

inline constexpr int kMaxBuckets = 512;
inline constexpr int64_t kItemsPerChunk = 1024;

inline int64_t num_chunks(int64_t num_items) {
  return num_items > 0 ? (num_items + kItemsPerChunk - 1) / kItemsPerChunk : 1;
}

// Bytes of `places`, the array that the three kernels share: [chunks, buckets] int32.
inline size_t counting_sort_workspace_size(int64_t num_items, int64_t num_buckets) {
  return static_cast<size_t>(num_chunks(num_items) * num_buckets) * sizeof(int32_t);
}

// places[chunk, b] = items of the chunk with key(i) == b. Keys outside [0, num_buckets) are in no bucket.
template <class Key>
__global__ void __launch_bounds__(kWarp)
    count_chunks_kernel(Key key, int64_t num_items, int num_buckets, int32_t* places) {
  __shared__ int32_t count[kMaxBuckets];
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kItemsPerChunk;
  const int64_t end = begin + kItemsPerChunk < num_items ? begin + kItemsPerChunk : num_items;
  for (int b = static_cast<int>(threadIdx.x); b < num_buckets; b += kWarp) count[b] = 0;
  __syncthreads();
  for (int64_t i = begin + threadIdx.x; i < end; i += kWarp) {
    const int b = key(i);
    if (b >= 0 && b < num_buckets) atomicAdd(&count[b], 1);
  }
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < num_buckets; b += kWarp) {
    places[static_cast<int64_t>(blockIdx.x) * num_buckets + b] = count[b];
  }
}

// One block: turns the counts into first places. Buckets start at multiples of `alignment`; counts and offsets (the
// starts, then the padded total) may be null.
template <class Offset>
__global__ void __launch_bounds__(kMaxBuckets) scan_chunks_kernel(int32_t* places, int64_t chunks, int num_buckets,
                                                                  int64_t alignment, Offset* counts, Offset* offsets) {
  __shared__ int64_t sum[kMaxBuckets];
  const int b = static_cast<int>(threadIdx.x);
  int64_t count = 0;
  if (b < num_buckets) {
    for (int64_t c = 0; c < chunks; ++c) count += places[c * num_buckets + b];
  }
  const int64_t padded = (count + alignment - 1) / alignment * alignment;
  sum[b] = padded;
  __syncthreads();
  for (int distance = 1; distance < kMaxBuckets; distance *= 2) {  // inclusive scan (Hillis & Steele 1986)
    const int64_t left = b >= distance ? sum[b - distance] : 0;
    __syncthreads();
    sum[b] += left;
    __syncthreads();
  }
  if (b >= num_buckets) return;
  int64_t place = sum[b] - padded;
  if (counts != nullptr) counts[b] = static_cast<Offset>(count);
  if (offsets != nullptr) offsets[b] = static_cast<Offset>(place);
  if (offsets != nullptr && b == num_buckets - 1) offsets[num_buckets] = static_cast<Offset>(sum[b]);
  for (int64_t c = 0; c < chunks; ++c) {
    const int32_t in_chunk = places[c * num_buckets + b];
    places[c * num_buckets + b] = static_cast<int32_t>(place);
    place += in_chunk;
  }
}

// Calls sink(i, place) for every item, place -1 for those in no bucket.
template <class Key, class Sink>
__global__ void __launch_bounds__(kWarp)
    place_items_kernel(Key key, Sink sink, int64_t num_items, int num_buckets, const int32_t* places) {
  __shared__ int32_t next[kMaxBuckets];
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kItemsPerChunk;
  const int64_t end = begin + kItemsPerChunk < num_items ? begin + kItemsPerChunk : num_items;
  for (int b = lane; b < num_buckets; b += kWarp) next[b] = places[static_cast<int64_t>(blockIdx.x) * num_buckets + b];
  __syncwarp();
  for (int64_t first = begin; first < end; first += kWarp) {
    const int64_t i = first + lane;
    const int wanted = i < end ? key(i) : -1;
    const int b = wanted >= 0 && wanted < num_buckets ? wanted : -1;
    const unsigned same = __match_any_sync(kAllLanes, b);
    const int before = __popc(same & ((1u << lane) - 1));
    const int32_t start = b >= 0 ? next[b] : 0;
    __syncwarp();
    if (b >= 0 && before == 0) next[b] = start + __popc(same);
    __syncwarp();
    if (i < end) sink(i, b >= 0 ? start + before : -1);
  }
}

// The three kernels in a row. `places` points to counting_sort_workspace_size bytes.
template <class Key, class Sink, class Offset>
cudaError_t counting_sort(const Key& key, const Sink& sink, int64_t num_items, int num_buckets, int64_t alignment,
                          int32_t* places, Offset* counts, Offset* offsets, cudaStream_t stream) {
  if (num_buckets < 1 || num_buckets > kMaxBuckets) return cudaErrorInvalidValue;
  const int64_t chunks = num_chunks(num_items);
  const dim3 grid(static_cast<unsigned>(chunks)), warp(kWarp);
  cudaError_t error = launch(count_chunks_kernel<Key>, grid, warp, stream, key, num_items, num_buckets, places);
  if (error != cudaSuccess) return error;
  error = launch(scan_chunks_kernel<Offset>, dim3(1), dim3(kMaxBuckets), stream, places, chunks, num_buckets, alignment,
                 counts, offsets);
  if (error != cudaSuccess) return error;
  return launch(place_items_kernel<Key, Sink>, grid, warp, stream, key, sink, num_items, num_buckets,
                static_cast<const int32_t*>(places));
}

}  // namespace mmoe::kernels
