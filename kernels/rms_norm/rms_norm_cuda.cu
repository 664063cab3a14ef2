#include <algorithm>

#include "kernels/device/math.h"
#include "kernels/device/pack.h"
#include "kernels/device/reduce.h"
#include "kernels/rms_norm/rms_norm_cuda.h"

namespace mmoe::kernels {
namespace {

// Where vector r of a strided array starts.
template <class Args>
__device__ __forceinline__ int64_t start(const Args& a, int64_t r, int64_t stride) {
  return r / a.vectors_per_row * stride + r % a.vectors_per_row * a.size;
}

// One vector for each threadIdx.y; the second pass over x finds it in the cache.
template <class T, int kWidth, int kThreads>
__global__ void __launch_bounds__(kThreadsPerBlock) forward_kernel(RmsNormForward a) {
  using A = Accumulate<T>;
  const int64_t r = row_of_thread(), packs = a.size / kWidth;
  if (r >= a.num_vectors) return;  // whole warps, or no thread of the block
  const T* x = static_cast<const T*>(a.x) + start(a, r, a.x_stride);
  const T* weight = static_cast<const T*>(a.weight);
  T* y = static_cast<T*>(a.y) + start(a, r, a.y_stride);
  A sum = 0;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    const auto pack = load_pack<kWidth>(x, i);
    each<kWidth>([&](int e) { sum += load(pack.element[e]) * load(pack.element[e]); });
  }
  sum = row_sum<kThreads>(sum);
  const A rstd = 1 / device_sqrt(sum / static_cast<A>(a.size) + static_cast<A>(a.epsilon));
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    auto pack = load_pack<kWidth>(x, i);
    const auto w = load_pack<kWidth>(weight, i);
    each<kWidth>([&](int e) { pack.element[e] = store<T>(load(pack.element[e]) * rstd * load(w.element[e])); });
    store_pack<kWidth>(y, i, pack);
  }
  if (a.rstd != nullptr && threadIdx.x == 0) static_cast<A*>(a.rstd)[r] = rstd;
}

template <class T, int kWidth, int kThreads>
__global__ void __launch_bounds__(kThreadsPerBlock) backward_kernel(RmsNormBackward a) {
  using A = Accumulate<T>;
  const int64_t r = row_of_thread(), packs = a.size / kWidth;
  if (r >= a.num_vectors) return;
  const T* dy = static_cast<const T*>(a.dy) + start(a, r, a.dy_stride);
  const T* x = static_cast<const T*>(a.x) + start(a, r, a.x_stride);
  const T* weight = static_cast<const T*>(a.weight);
  const int64_t dx_start = start(a, r, a.dx_stride);
  const A rstd = static_cast<const A*>(a.rstd)[r];
  A sum = 0;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    const auto d = load_pack<kWidth>(dy, i), w = load_pack<kWidth>(weight, i), h = load_pack<kWidth>(x, i);
    each<kWidth>([&](int e) { sum += load(d.element[e]) * load(w.element[e]) * load(h.element[e]); });
  }
  const A mean = row_sum<kThreads>(sum) * rstd / static_cast<A>(a.size);
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    const auto d = load_pack<kWidth>(dy, i), w = load_pack<kWidth>(weight, i), h = load_pack<kWidth>(x, i);
    A gradient[kWidth];
    each<kWidth>([&](int e) {
      gradient[e] = rstd * (load(d.element[e]) * load(w.element[e]) - load(h.element[e]) * rstd * mean);
    });
    if (a.d_residual != nullptr) {
      const auto residual = load_pack<kWidth>(static_cast<const T*>(a.d_residual) + dx_start, i);
      each<kWidth>([&](int e) { gradient[e] += load(residual.element[e]); });
    }
    Pack<T, kWidth> dx;
    each<kWidth>([&](int e) { dx.element[e] = store<T>(gradient[e]); });
    store_pack<kWidth>(static_cast<T*>(a.dx) + dx_start, i, dx);
  }
}

// The weight gradient: blocks of 32 columns and 8 lanes of vectors sum over one range of vectors each; then the ranges
// are summed in order.
constexpr int kColumns = 32, kLanes = 8;
constexpr int64_t kMaxRanges = 256, kVectorsPerRange = 64;

int64_t num_ranges(const RmsNormBackward& a) {
  return std::clamp<int64_t>(a.num_vectors / kVectorsPerRange, 1, kMaxRanges);
}

// Sums `value` over the lanes (threadIdx.y) of each column, in order; lane 0 gets the result.
template <class A>
__device__ __forceinline__ A lanes_sum(A value) {
  __shared__ A of_lane[kLanes][kColumns];
  of_lane[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  A sum = 0;
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) sum += of_lane[lane][threadIdx.x];
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kColumns* kLanes) partial_d_weight_kernel(RmsNormBackward a, int64_t ranges) {
  using A = Accumulate<T>;
  const int64_t d = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x, range = blockIdx.y;
  const int64_t end = (range + 1) * a.num_vectors / ranges;
  A sum = 0;
  if (d < a.size) {
    for (int64_t r = range * a.num_vectors / ranges + threadIdx.y; r < end; r += kLanes) {
      const A dy = load(static_cast<const T*>(a.dy)[start(a, r, a.dy_stride) + d]);
      const A x = load(static_cast<const T*>(a.x)[start(a, r, a.x_stride) + d]);
      sum += dy * (x * static_cast<const A*>(a.rstd)[r]);
    }
  }
  sum = lanes_sum(sum);
  if (threadIdx.y == 0 && d < a.size) static_cast<A*>(a.workspace)[range * a.size + d] = sum;
}

template <class A>
__global__ void __launch_bounds__(kColumns* kLanes) add_d_weight_kernel(RmsNormBackward a, int64_t ranges) {
  const int64_t d = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  A sum = 0;
  if (d < a.size) {
    for (int64_t i = threadIdx.y; i < ranges; i += kLanes) sum += static_cast<const A*>(a.workspace)[i * a.size + d];
  }
  sum = lanes_sum(sum);
  if (threadIdx.y == 0 && d < a.size) static_cast<A*>(a.d_weight)[d] += sum;
}

}  // namespace

cudaError_t rms_norm_forward_cuda(const RmsNormForward& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool wide = can_use_wide_packs<T>({args.x, args.weight, args.y}, {args.size, args.x_stride, args.y_stride});
    return with_width<T>(wide, [&](auto width) {
      constexpr int kWidth = decltype(width)::width;
      return with_threads_per_row(args.size / kWidth, [&](auto threads) {
        constexpr int kThreads = decltype(threads)::threads;
        return launch(forward_kernel<T, kWidth, kThreads>, row_grid(args.num_vectors, kThreads), row_block(kThreads),
                      stream, args);
      });
    });
  });
}

size_t rms_norm_backward_cuda_workspace_size(const RmsNormBackward& args) {
  if (args.d_weight == nullptr) return 0;
  return static_cast<size_t>(num_ranges(args) * args.size) * size_of(accumulate(args.scalar));
}

cudaError_t rms_norm_backward_cuda(const RmsNormBackward& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (args.d_weight != nullptr) {  // first, since dx may overwrite dy
      const int64_t ranges = num_ranges(args);
      const dim3 block(kColumns, kLanes), columns(num_blocks(args.size, kColumns));
      cudaError_t error = launch(partial_d_weight_kernel<T>, dim3(columns.x, static_cast<unsigned>(ranges)), block,
                                 stream, args, ranges);
      if (error != cudaSuccess) return error;
      error = launch(add_d_weight_kernel<Accumulate<T>>, columns, block, stream, args, ranges);
      if (error != cudaSuccess) return error;
    }
    const bool wide = can_use_wide_packs<T>({args.dy, args.x, args.weight, args.d_residual, args.dx},
                                            {args.size, args.dy_stride, args.x_stride, args.dx_stride});
    return with_width<T>(wide, [&](auto width) {
      constexpr int kWidth = decltype(width)::width;
      return with_threads_per_row(args.size / kWidth, [&](auto threads) {
        constexpr int kThreads = decltype(threads)::threads;
        return launch(backward_kernel<T, kWidth, kThreads>, row_grid(args.num_vectors, kThreads), row_block(kThreads),
                      stream, args);
      });
    });
  });
}

}  // namespace mmoe::kernels
