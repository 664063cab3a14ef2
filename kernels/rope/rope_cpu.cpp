#include <cmath>

#include "kernels/parallel/parallel.h"
#include "kernels/rope/rope.h"
#include "kernels/simd/simd.h"

namespace mmoe::kernels {
namespace {

template <class T>
MMOE_ALWAYS_INLINE void rotate(const Rope& a, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  const int64_t half = a.head_dim / 2;
  const A sign = a.direction == RopeDirection::kForward ? A{1} : A{-1};
  for (int64_t r = begin; r < end; ++r) {
    const int64_t position = r % a.seq_len + a.position_offset;
    const A* cos = static_cast<const A*>(a.cos) + position * half;
    const A* sin = static_cast<const A*>(a.sin) + position * half;
    for (int64_t h = 0; h < a.num_rotated_heads; ++h) {
      T* x = static_cast<T*>(a.x) + (r * a.num_heads + h) * a.head_dim;
#pragma omp simd
      for (int64_t i = 0; i < half; ++i) {
        const A first = load(x[i]), second = load(x[i + half]), s = sign * sin[i];
        x[i] = store<T>(first * cos[i] - second * s);
        x[i + half] = store<T>(second * cos[i] + first * s);
      }
    }
  }
}
MMOE_SIMD_FUNCTION(rotate_rows, rotate, Rope)

}  // namespace

void rope_cpu(const Rope& args) {
  const int64_t bytes = 2 * args.num_rotated_heads * args.head_dim * static_cast<int64_t>(size_of(args.scalar));
  parallel_for(0, args.num_rows, rows_grain(bytes),
               [&](int64_t begin, int64_t end) { rotate_rows(args.scalar, args, begin, end); });
}

void rope_fill_table(Scalar scalar, double theta, int64_t num_positions, int64_t head_dim, void* cos, void* sin) {
  const int64_t half = head_dim / 2;
  visit_accumulate(scalar, [&](auto tag) {
    using A = typename decltype(tag)::type;
    for (int64_t i = 0; i < half; ++i) {
      const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      for (int64_t position = 0; position < num_positions; ++position) {
        const double angle = static_cast<double>(position) * frequency;
        static_cast<A*>(cos)[position * half + i] = static_cast<A>(std::cos(angle));
        static_cast<A*>(sin)[position * half + i] = static_cast<A>(std::sin(angle));
      }
    }
  });
}

}  // namespace mmoe::kernels
