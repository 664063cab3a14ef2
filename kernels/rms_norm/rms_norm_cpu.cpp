#include <algorithm>
#include <cmath>

#include "kernels/parallel/parallel.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/simd/simd.h"
#include "kernels/workspace/workspace.h"

namespace mmoe::kernels {
namespace {

template <class T>
MMOE_ALWAYS_INLINE void forward(const RmsNormForward& a, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  const int64_t D = a.size;
  const T* weight = static_cast<const T*>(a.weight);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t row = r / a.vectors_per_row, place = r % a.vectors_per_row * D;
    const T* x = static_cast<const T*>(a.x) + row * a.x_stride + place;
    T* y = static_cast<T*>(a.y) + row * a.y_stride + place;
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < D; ++d) sum += load(x[d]) * load(x[d]);
    const A rstd = 1 / std::sqrt(sum / static_cast<A>(D) + static_cast<A>(a.epsilon));
#pragma omp simd
    for (int64_t d = 0; d < D; ++d) y[d] = store<T>(load(x[d]) * rstd * load(weight[d]));
    if (a.rstd != nullptr) static_cast<A*>(a.rstd)[r] = rstd;
  }
}
MMOE_SIMD_FUNCTION(forward_rows, forward, RmsNormForward)

// The weight gradient is summed over fixed ranges of vectors, then over the ranges, so that threads do not show.
constexpr int64_t kMaxRanges = 32;

int64_t num_ranges(int64_t num_vectors) { return std::clamp<int64_t>(num_vectors / 64, 1, kMaxRanges); }

// RmsNormBackward with the sums of each range in place of d_weight.
struct BackwardRange {
  const RmsNormBackward& args;
  void* partial;  // [D] accumulate
};

template <class T>
MMOE_ALWAYS_INLINE void backward(const BackwardRange& range, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  const RmsNormBackward& a = range.args;
  const int64_t D = a.size;
  const T* weight = static_cast<const T*>(a.weight);
  const T* d_residual = static_cast<const T*>(a.d_residual);
  A* partial = static_cast<A*>(range.partial);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t row = r / a.vectors_per_row, place = r % a.vectors_per_row * D;
    const T* dy = static_cast<const T*>(a.dy) + row * a.dy_stride + place;
    const T* x = static_cast<const T*>(a.x) + row * a.x_stride + place;
    T* dx = static_cast<T*>(a.dx) + row * a.dx_stride + place;
    const A rstd = static_cast<const A*>(a.rstd)[r];
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < D; ++d) sum += load(dy[d]) * load(weight[d]) * load(x[d]);
    const A mean = sum * rstd / static_cast<A>(D);
    if (partial != nullptr) {
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) partial[d] += load(dy[d]) * (load(x[d]) * rstd);
    }
    if (d_residual == nullptr) {
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) {
        dx[d] = store<T>(rstd * (load(dy[d]) * load(weight[d]) - load(x[d]) * rstd * mean));
      }
    } else {
      const T* residual = d_residual + row * a.dx_stride + place;
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) {
        dx[d] = store<T>(load(residual[d]) + rstd * (load(dy[d]) * load(weight[d]) - load(x[d]) * rstd * mean));
      }
    }
  }
}
MMOE_SIMD_FUNCTION(backward_rows, backward, BackwardRange)

template <class A>
void add_partials(const A* partials, int64_t ranges, int64_t size, A* d_weight) {
  for (int64_t i = 0; i < ranges; ++i) {
    for (int64_t d = 0; d < size; ++d) d_weight[d] += partials[i * size + d];
  }
}

}  // namespace

void rms_norm_forward_cpu(const RmsNormForward& args) {
  const int64_t grain = rows_grain(2 * args.size * static_cast<int64_t>(size_of(args.scalar)));
  parallel_for(0, args.num_vectors, grain,
               [&](int64_t begin, int64_t end) { forward_rows(args.scalar, args, begin, end); });
}

size_t rms_norm_backward_cpu_workspace_size(const RmsNormBackward& args) {
  if (args.d_weight == nullptr) return 0;
  return static_cast<size_t>(num_ranges(args.num_vectors) * args.size) * size_of(accumulate(args.scalar));
}

void rms_norm_backward_cpu(const RmsNormBackward& args) {
  const int64_t ranges = num_ranges(args.num_vectors);
  const size_t partial_size = static_cast<size_t>(args.size) * size_of(accumulate(args.scalar));
  const Workspace workspace(args.workspace, rms_norm_backward_cpu_workspace_size(args));
  parallel_for(0, ranges, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      void* partial = nullptr;
      if (args.d_weight != nullptr) {
        partial = static_cast<char*>(workspace.data()) + static_cast<size_t>(i) * partial_size;
        std::memset(partial, 0, partial_size);
      }
      backward_rows(args.scalar, BackwardRange{args, partial}, i * args.num_vectors / ranges,
                    (i + 1) * args.num_vectors / ranges);
    }
  });
  if (args.d_weight == nullptr) return;
  visit_accumulate(args.scalar, [&](auto tag) {
    using A = typename decltype(tag)::type;
    add_partials(static_cast<const A*>(workspace.data()), ranges, args.size, static_cast<A*>(args.d_weight));
  });
}

}  // namespace mmoe::kernels
