#include "kernels/rope/rope.h"

namespace mmoe::kernels {
namespace {

template <class T>
void rotate(const Rope& a) {
  using A = Accumulate<T>;
  const int64_t half = a.head_dim / 2;
  for (int64_t r = 0; r < a.num_rows; ++r) {
    const int64_t position = r % a.seq_len + a.position_offset;
    for (int64_t h = 0; h < a.num_rotated_heads; ++h) {
      T* x = static_cast<T*>(a.x) + (r * a.num_heads + h) * a.head_dim;
      for (int64_t i = 0; i < half; ++i) {
        const A c = static_cast<const A*>(a.cos)[position * half + i];
        const A positive = static_cast<const A*>(a.sin)[position * half + i];
        const A s = a.direction == RopeDirection::kForward ? positive : -positive;
        const A first = load(x[i]), second = load(x[i + half]);
        x[i] = store<T>(first * c - second * s);
        x[i + half] = store<T>(second * c + first * s);
      }
    }
  }
}

}  // namespace

void rope_reference(const Rope& args) {
  visit_scalar(args.scalar, [&](auto tag) { rotate<typename decltype(tag)::type>(args); });
}

}  // namespace mmoe::kernels
