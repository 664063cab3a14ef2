#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

template <class T>
MMOE_ALWAYS_INLINE void fill_row(const CrossEntropy& a, T* logits, Accumulate<T> value) {
  if (a.gradient == LogitsGradient::kInPlace) std::fill(logits, logits + a.vocab_size, store<T>(value));
}

template <class T>
MMOE_ALWAYS_INLINE void rows(const CrossEntropy& a, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  constexpr A kNan = std::numeric_limits<A>::quiet_NaN();
  const int64_t V = a.vocab_size;
  const A factor = static_cast<A>(a.scale);
  alignas(64) A buffer[kTile];
  for (int64_t r = begin; r < end; ++r) {
    T* logits = static_cast<T*>(a.logits) + r * a.stride;
    A* loss = static_cast<A*>(a.loss) + r;
    const int64_t target = a.targets[r];
    if (target < 0 || target >= V) {
      *loss = target == kIgnoredTarget ? 0 : kNan;
      fill_row<T>(a, logits, *loss);
      continue;
    }
    A maximum = -std::numeric_limits<A>::infinity();
#pragma omp simd reduction(max : maximum)
    for (int64_t v = 0; v < V; ++v) maximum = load(logits[v]) > maximum ? load(logits[v]) : maximum;
    A sum = 0;  // NaN for a row with NaN, with +inf, or all -inf
    for (int64_t first = 0; first < V; first += kTile) {
      const int64_t n = std::min(kTile, V - first);
      const A* x = widen(logits + first, buffer, n);
#pragma omp simd reduction(+ : sum)
      for (int64_t v = 0; v < n; ++v) sum += fast_exp(x[v] - maximum);
    }
    const A target_logit = load(logits[target]);
    *loss = maximum + std::log(sum) - target_logit;
    if (a.gradient == LogitsGradient::kOmit) continue;
    const A inverse = factor / sum;
    for (int64_t first = 0; first < V; first += kTile) {
      const int64_t n = std::min(kTile, V - first);
      const A* x = widen(logits + first, buffer, n);
      A* gradient = wide_target(logits + first, buffer);
#pragma omp simd
      for (int64_t v = 0; v < n; ++v) gradient[v] = fast_exp(x[v] - maximum) * inverse;
      narrow(gradient, logits + first, n);
    }
    logits[target] = store<T>(factor * (fast_exp(target_logit - maximum) / sum - 1));
  }
}
MMOE_SIMD_FUNCTION(row_range, rows, CrossEntropy)

}  // namespace

void cross_entropy_cpu(const CrossEntropy& args) {
  const int64_t bytes = 2 * args.vocab_size * static_cast<int64_t>(size_of(args.scalar));
  parallel_for(0, args.num_rows, rows_grain(bytes),
               [&](int64_t begin, int64_t end) { row_range(args.scalar, args, begin, end); });
}

}  // namespace mmoe::kernels
