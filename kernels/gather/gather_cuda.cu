#include "kernels/device/pack.h"
#include "kernels/gather/gather_cuda.h"

namespace mmoe::kernels {
namespace {

// One row for each threadIdx.y; its threads stride over the packs.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreadsPerBlock) gather_kernel(Gather a) {
  const int64_t r = row_of_thread(), packs = a.size / kWidth;
  if (r >= a.num_rows) return;
  const int64_t source = a.index[r];
  const T* x = static_cast<const T*>(a.x) + source * a.size;
  T* row = static_cast<T*>(a.rows) + r * a.size;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    Pack<T, kWidth> pack;
    if (source < 0) {
      each<kWidth>([&](int e) { pack.element[e] = store<T>(0); });
    } else {
      pack = load_pack<kWidth>(x, i);
    }
    store_pack<kWidth>(row, i, pack);
  }
}

}  // namespace

cudaError_t gather_cuda(const Gather& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return with_width<T>(can_use_wide_packs<T>({args.x, args.rows}, {args.size}), [&](auto width) {
      constexpr int kWidth = decltype(width)::width;
      const int threads = args.size / kWidth < kLongRow ? kWarp : kThreadsPerBlock;
      return launch(gather_kernel<T, kWidth>, row_grid(args.num_rows, threads), row_block(threads), stream, args);
    });
  });
}

}  // namespace mmoe::kernels
