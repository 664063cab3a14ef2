#include "kernels/device/pack.h"
#include "kernels/rope/rope_cuda.h"

namespace mmoe::kernels {
namespace {

// One row for each threadIdx.y; its threads stride over the packs of the first halves of all rotated heads.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreadsPerBlock) rope_kernel(Rope a) {
  using A = Accumulate<T>;
  const int64_t r = row_of_thread();
  if (r >= a.num_rows) return;
  const int half = static_cast<int>(a.head_dim / 2), packs_per_head = half / kWidth;
  const int packs = static_cast<int>(a.num_rotated_heads) * packs_per_head;
  const int64_t position = r % a.seq_len + a.position_offset;
  const A* cos = static_cast<const A*>(a.cos) + position * half;
  const A* sin = static_cast<const A*>(a.sin) + position * half;
  const A sign = a.direction == RopeDirection::kForward ? 1 : -1;
  T* row = static_cast<T*>(a.x) + r * a.num_heads * a.head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < packs; i += static_cast<int>(blockDim.x)) {
    const int head = i / packs_per_head, pack = i % packs_per_head;
    T* x = row + head * a.head_dim;
    auto first = load_pack<kWidth>(x, pack), second = load_pack<kWidth>(x + half, pack);
    const auto c = load_pack<kWidth>(cos, pack), s = load_pack<kWidth>(sin, pack);
    each<kWidth>([&](int e) {
      const A u = load(first.element[e]), v = load(second.element[e]), w = sign * s.element[e];
      first.element[e] = store<T>(u * c.element[e] - v * w);
      second.element[e] = store<T>(v * c.element[e] + u * w);
    });
    store_pack<kWidth>(x, pack, first);
    store_pack<kWidth>(x + half, pack, second);
  }
}

}  // namespace

cudaError_t rope_cuda(const Rope& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    // Packs of the tables are as many elements as packs of x, but of the accumulate type: 32 bytes for bf16.
    const bool wide = can_use_wide_packs<T>({args.x}, {args.head_dim / 2}) &&
                      reinterpret_cast<uintptr_t>(args.cos) % 32 == 0 &&
                      reinterpret_cast<uintptr_t>(args.sin) % 32 == 0;
    return with_width<T>(wide, [&](auto width) {
      constexpr int kWidth = decltype(width)::width;
      return launch(rope_kernel<T, kWidth>, row_grid(args.num_rows, kWarp), row_block(kWarp), stream, args);
    });
  });
}

}  // namespace mmoe::kernels
