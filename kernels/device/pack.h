#pragma once
// Several neighbouring elements moved by one load or store. A kernel is compiled for packs of 16 bytes and of a single
// element; its launcher takes the wide one where size and alignment allow.

#include <cstdint>
#include <initializer_list>

#include "kernels/device/launch.h"
#include "kernels/types/scalar.h"

namespace mmoe::kernels {

// kWidth elements of type T, aligned to their whole size.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T element[kWidth];
};

// Elements of T in 16 bytes.
template <class T>
inline constexpr int kWideWidth = static_cast<int>(16 / sizeof(T));

// Whether arrays that start at `pointers` and advance in steps of `steps` elements of T can be moved in packs.
template <class T>
bool can_use_wide_packs(std::initializer_list<const void*> pointers, std::initializer_list<int64_t> steps) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return false;
  }
  for (const int64_t step : steps) {
    if (step % kWideWidth<T> != 0) return false;
  }
  return true;
}

// The pack at index `i` (in packs) of an array.
template <int kWidth, class T>
__device__ __forceinline__ Pack<T, kWidth> load_pack(const T* array, int64_t i) {
  return reinterpret_cast<const Pack<T, kWidth>*>(array)[i];
}
template <int kWidth, class T>
__device__ __forceinline__ void store_pack(T* array, int64_t i, const Pack<T, kWidth>& pack) {
  reinterpret_cast<Pack<T, kWidth>*>(array)[i] = pack;
}

// Calls body(element) for 0 <= element < kWidth, unrolled.
template <int kWidth, class Body>
__device__ __forceinline__ void each(const Body& body) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) body(i);
}

template <int kWidth>
struct WidthTag {
  static constexpr int width = kWidth;
};
template <int kThreads>
struct ThreadsTag {
  static constexpr int threads = kThreads;
};

// Calls launcher(WidthTag) with the widest usable pack width of T.
template <class T, class Launcher>
cudaError_t with_width(bool wide, const Launcher& launcher) {
  return wide ? launcher(WidthTag<kWideWidth<T>>{}) : launcher(WidthTag<1>{});
}
// Calls launcher(ThreadsTag) with the threads for each row of `packs` packs: a warp or a block.
template <class Launcher>
cudaError_t with_threads_per_row(int64_t packs, const Launcher& launcher) {
  return packs < kLongRow ? launcher(ThreadsTag<kWarp>{}) : launcher(ThreadsTag<kThreadsPerBlock>{});
}

}  // namespace mmoe::kernels
