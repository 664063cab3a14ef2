#include "kernels/combine/combine_cuda.h"
#include "kernels/device/pack.h"

namespace mmoe::kernels {
namespace {

// One token for each threadIdx.y. The row numbers are the same for all its threads: a broadcast.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreadsPerBlock) combine_kernel(Combine a) {
  using A = Accumulate<T>;
  const int64_t t = row_of_thread(), packs = a.size / kWidth;
  if (t >= a.num_tokens) return;
  const T* rows = static_cast<const T*>(a.rows);
  const int32_t* row_of_pair = a.row_of_pair + t * a.top_k;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    A sum[kWidth];
    each<kWidth>([&](int e) { sum[e] = 0; });
    if (a.base != nullptr) {
      const auto base = load_pack<kWidth>(static_cast<const T*>(a.base) + t * a.size, i);
      each<kWidth>([&](int e) { sum[e] = load(base.element[e]); });
    }
    for (int64_t j = 0; j < a.top_k; ++j) {
      const int64_t row = row_of_pair[j];
      if (row < 0) continue;
      const auto pack = load_pack<kWidth>(rows + row * a.size, i);
      each<kWidth>([&](int e) { sum[e] += load(pack.element[e]); });
    }
    Pack<T, kWidth> out;
    each<kWidth>([&](int e) { out.element[e] = store<T>(sum[e]); });
    store_pack<kWidth>(static_cast<T*>(a.out) + t * a.size, i, out);
  }
}

// One row for each threadIdx.y; no two rows have the same token, so none needs an atomic.
template <class T, class Out, int kWidth>
__global__ void __launch_bounds__(kThreadsPerBlock) scatter_add_kernel(ScatterAddRows a) {
  const int64_t r = row_of_thread(), packs = a.size / kWidth;
  if (r >= a.num_rows) return;
  const int64_t token = a.token_of_row[r];
  if (token < 0) return;
  Out* out = static_cast<Out*>(a.out) + token * a.size;
  for (int64_t i = threadIdx.x; i < packs; i += blockDim.x) {
    const auto row = load_pack<kWidth>(static_cast<const T*>(a.rows) + r * a.size, i);
    auto sum = load_pack<kWidth>(out, i);
    each<kWidth>([&](int e) { sum.element[e] = store<Out>(load(sum.element[e]) + load(row.element[e])); });
    store_pack<kWidth>(out, i, sum);
  }
}

int threads_per_row(int64_t packs) { return packs < kLongRow ? kWarp : kThreadsPerBlock; }

template <class T, class Out>
cudaError_t launch_scatter_add(const ScatterAddRows& args, cudaStream_t stream) {
  // The wider of the two types decides how many elements fit into 16 bytes.
  const bool wide = can_use_wide_packs<Out>({args.rows, args.out}, {args.size});
  return with_width<Out>(wide, [&](auto width) {
    constexpr int kWidth = decltype(width)::width;
    const int threads = threads_per_row(args.size / kWidth);
    return launch(scatter_add_kernel<T, Out, kWidth>, row_grid(args.num_rows, threads), row_block(threads), stream,
                  args);
  });
}

}  // namespace

cudaError_t combine_cuda(const Combine& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return with_width<T>(can_use_wide_packs<T>({args.rows, args.base, args.out}, {args.size}), [&](auto width) {
      constexpr int kWidth = decltype(width)::width;
      const int threads = threads_per_row(args.size / kWidth);
      return launch(combine_kernel<T, kWidth>, row_grid(args.num_tokens, threads), row_block(threads), stream, args);
    });
  });
}

cudaError_t scatter_add_rows_cuda(const ScatterAddRows& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (args.out_scalar == args.scalar) return launch_scatter_add<T, T>(args, stream);
    return launch_scatter_add<T, Accumulate<T>>(args, stream);
  });
}

}  // namespace mmoe::kernels
