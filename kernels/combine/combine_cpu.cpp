#include <algorithm>

#include "kernels/combine/combine.h"
#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

// sum += row[0], then row[1], ...: the loads overlap, and the sum is read and written once for all.
template <int kRows, class A, class T>
MMOE_ALWAYS_INLINE void add_rows_at_once(const T* const* row, A* sum, int64_t width) {
  const T *r0 = row[0], *r1 = row[kRows > 1], *r2 = row[kRows > 2 ? 2 : 0], *r3 = row[kRows > 3 ? 3 : 0];
#pragma omp simd
  for (int64_t d = 0; d < width; ++d) {
    A value = sum[d] + load(r0[d]);
    if (kRows > 1) value += load(r1[d]);
    if (kRows > 2) value += load(r2[d]);
    if (kRows > 3) value += load(r3[d]);
    sum[d] = value;
  }
}

template <class T>
MMOE_ALWAYS_INLINE void combine_tokens(const Combine& a, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  const T* rows = static_cast<const T*>(a.rows);
  alignas(64) A sum[kTile];
  for (int64_t t = begin; t < end; ++t) {
    const int32_t* row_of_pair = a.row_of_pair + t * a.top_k;
    for (int64_t first = 0; first < a.size; first += kTile) {
      const int64_t width = std::min(kTile, a.size - first);
      if (a.base == nullptr) {
        std::fill(sum, sum + width, A{0});
      } else {
        const T* base = static_cast<const T*>(a.base) + t * a.size + first;
#pragma omp simd
        for (int64_t d = 0; d < width; ++d) sum[d] = load(base[d]);
      }
      const T* next[4];
      int64_t count = 0;
      for (int64_t j = 0; j < a.top_k; ++j) {
        if (row_of_pair[j] >= 0) next[count++] = rows + row_of_pair[j] * a.size + first;
        if (count < 4 && j + 1 < a.top_k) continue;
        if (count == 4) add_rows_at_once<4>(next, sum, width);
        if (count == 3) add_rows_at_once<3>(next, sum, width);
        if (count == 2) add_rows_at_once<2>(next, sum, width);
        if (count == 1) add_rows_at_once<1>(next, sum, width);
        count = 0;
      }
      T* out = static_cast<T*>(a.out) + t * a.size + first;
#pragma omp simd
      for (int64_t d = 0; d < width; ++d) out[d] = store<T>(sum[d]);
    }
  }
}
MMOE_SIMD_FUNCTION(combine_range, combine_tokens, Combine)

template <class T, class Out>
MMOE_ALWAYS_INLINE void add_rows(const ScatterAddRows& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    if (a.token_of_row[r] < 0) continue;
    const T* row = static_cast<const T*>(a.rows) + r * a.size;
    Out* out = static_cast<Out*>(a.out) + a.token_of_row[r] * a.size;
#pragma omp simd
    for (int64_t d = 0; d < a.size; ++d) out[d] = store<Out>(load(out[d]) + load(row[d]));
  }
}

template <class T>
MMOE_ALWAYS_INLINE void scatter_add(const ScatterAddRows& a, int64_t begin, int64_t end) {
  if (a.out_scalar == a.scalar) {
    add_rows<T, T>(a, begin, end);
  } else {
    add_rows<T, Accumulate<T>>(a, begin, end);
  }
}
MMOE_SIMD_FUNCTION(scatter_add_range, scatter_add, ScatterAddRows)

}  // namespace

void combine_cpu(const Combine& args) {
  const int64_t bytes = (args.top_k + 2) * args.size * static_cast<int64_t>(size_of(args.scalar));
  parallel_for(0, args.num_tokens, rows_grain(bytes),
               [&](int64_t begin, int64_t end) { combine_range(args.scalar, args, begin, end); });
}

void scatter_add_rows_cpu(const ScatterAddRows& args) {
  const int64_t bytes = 3 * args.size * static_cast<int64_t>(size_of(args.scalar));
  parallel_for(0, args.num_rows, rows_grain(bytes),
               [&](int64_t begin, int64_t end) { scatter_add_range(args.scalar, args, begin, end); });
}

}  // namespace mmoe::kernels
