#include <algorithm>
#include <array>

#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"
#include "kernels/squared_norm/squared_norm.h"

namespace mmoe::kernels {
namespace {

// Sums over fixed ranges, then over the ranges, so that threads do not show.
constexpr int64_t kMaxRanges = 1024;
constexpr int64_t kValuesPerRange = 1 << 15;

struct SquaredNormRange {
  const SquaredNorm& args;
  double* sum;
};

template <class A>
MMOE_ALWAYS_INLINE void sum_squares(const SquaredNormRange& range, int64_t begin, int64_t end) {
  // Four streams at once: one alone does not fill the memory's pipeline.
  const int64_t quarter = (end - begin) / 4 / kTile * kTile;
  const A* values = static_cast<const A*>(range.args.values) + begin;
  const A *v0 = values, *v1 = v0 + quarter, *v2 = v1 + quarter, *v3 = v2 + quarter;
  double total = 0;
  for (int64_t first = 0; first < quarter; first += kTile) {
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = first; i < first + kTile; ++i) {
      sum += (v0[i] * v0[i] + v1[i] * v1[i]) + (v2[i] * v2[i] + v3[i] * v3[i]);
    }
    total += static_cast<double>(sum);
  }
  for (int64_t first = 4 * quarter; first < end - begin; first += kTile) {
    const int64_t last = std::min(end - begin, first + kTile);
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = first; i < last; ++i) sum += values[i] * values[i];
    total += static_cast<double>(sum);
  }
  *range.sum = total;
}
MMOE_SIMD_ACCUMULATE_FUNCTION(sum_range, sum_squares, SquaredNormRange)

}  // namespace

double squared_norm_cpu(const SquaredNorm& args) {
  const int64_t N = args.num_values, ranges = std::clamp<int64_t>(N / kValuesPerRange, 1, kMaxRanges);
  std::array<double, kMaxRanges> sums;
  parallel_for(0, ranges, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      sum_range(args.scalar, SquaredNormRange{args, &sums[static_cast<size_t>(i)]}, i * N / ranges,
                (i + 1) * N / ranges);
    }
  });
  double total = 0;
  for (int64_t i = 0; i < ranges; ++i) total += sums[static_cast<size_t>(i)];
  return total;
}

}  // namespace mmoe::kernels
