#include <algorithm>
#include <cmath>

#include "kernels/adamw/adamw.h"
#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

template <class T>
MMOE_ALWAYS_INLINE void update(const AdamW& a, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  const auto step = static_cast<double>(a.step);
  const A scale = static_cast<A>(1 / a.gradient_divisor), keep = static_cast<A>(1 - a.rate * a.decay);
  const A beta1 = static_cast<A>(a.beta1), rest1 = static_cast<A>(1 - a.beta1);
  const A beta2 = static_cast<A>(a.beta2), rest2 = static_cast<A>(1 - a.beta2);
  const A size = static_cast<A>(a.rate / (1 - std::pow(a.beta1, step)));
  const A root = static_cast<A>(1 / std::sqrt(1 - std::pow(a.beta2, step))), epsilon = static_cast<A>(a.epsilon);
  for (int64_t first = begin; first < end; first += kTile) {
    const int64_t n = std::min(kTile, end - first);
    A* master = static_cast<A*>(a.master) + first;
    A* moment1 = static_cast<A*>(a.first_moment) + first;
    A* moment2 = static_cast<A*>(a.second_moment) + first;
    const A* gradient = static_cast<const A*>(a.gradient) + first;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const A g = gradient[i] * scale;
      const A m = beta1 * moment1[i] + rest1 * g, v = beta2 * moment2[i] + rest2 * (g * g);
      moment1[i] = m;
      moment2[i] = v;
      master[i] = master[i] * keep - size * m / (std::sqrt(v) * root + epsilon);
    }
    if (a.value == nullptr) continue;
    T* value = static_cast<T*>(a.value) + first;
    prefetch_for_writing(value + kTile, n);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) value[i] = store<T>(master[i]);
  }
}
MMOE_SIMD_FUNCTION(update_range, update, AdamW)

}  // namespace

void adamw_cpu(const AdamW& args) {
  const auto bytes = static_cast<int64_t>(7 * size_of(accumulate(args.scalar)));
  parallel_for(0, args.num_values, rows_grain(bytes),
               [&](int64_t begin, int64_t end) { update_range(args.scalar, args, begin, end); });
}

}  // namespace mmoe::kernels
