#include "kernels/device/math.h"
#include "kernels/device/pack.h"
#include "kernels/device/reduce.h"
#include "kernels/swiglu/swiglu_cuda.h"

namespace mmoe::kernels {
namespace {

// One row for each threadIdx.y. Padding rows are written as zeros and not read.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreadsPerBlock) forward_kernel(SwigluForward args) {
  using A = Accumulate<T>;
  const int64_t r = row_of_thread(), F = args.expert_hidden_size;
  if (r >= args.num_rows) return;
  const int64_t pair = args.pair_of_row == nullptr ? 0 : args.pair_of_row[r];
  const A scale = pair < 0 ? 0 : args.pair_of_row == nullptr ? 1 : static_cast<const A*>(args.weights)[pair];
  const T* gate = static_cast<const T*>(args.gate_up) + r * 2 * F;
  T* a = static_cast<T*>(args.a) + r * F;
  for (int64_t i = threadIdx.x; i < F / kWidth; i += blockDim.x) {
    Pack<T, kWidth> out;
    if (pair < 0) {
      each<kWidth>([&](int e) { out.element[e] = store<T>(0); });
    } else {
      const auto g_pack = load_pack<kWidth>(gate, i), u_pack = load_pack<kWidth>(gate + F, i);
      each<kWidth>([&](int e) {
        const A g = load(g_pack.element[e]);
        out.element[e] = store<T>(scale * (g * device_sigmoid(g) * load(u_pack.element[e])));
      });
    }
    store_pack<kWidth>(a, i, out);
  }
}

// As above. Each thread reads a pack of every input before it writes any output there, so the outputs may alias.
template <class T, int kWidth, int kThreads>
__global__ void __launch_bounds__(kThreadsPerBlock) backward_kernel(SwigluBackward args) {
  using A = Accumulate<T>;
  const int64_t r = row_of_thread(), F = args.expert_hidden_size;
  if (r >= args.num_rows) return;  // whole warps, or no thread of the block
  const int64_t pair = args.pair_of_row == nullptr ? 0 : args.pair_of_row[r];
  const A scale = pair < 0 ? 0 : args.pair_of_row == nullptr ? 1 : static_cast<const A*>(args.weights)[pair];
  const T* gate = static_cast<const T*>(args.gate_up) + r * 2 * F;
  const T* da = static_cast<const T*>(args.da) + r * F;
  T* d_gate = static_cast<T*>(args.d_gate_up) + r * 2 * F;
  T* a = args.a == nullptr ? nullptr : static_cast<T*>(args.a) + r * F;
  A d_scale = 0;
  for (int64_t i = threadIdx.x; i < F / kWidth; i += kThreads) {
    Pack<T, kWidth> d_g, d_u, out;
    if (pair < 0) {
      each<kWidth>([&](int e) { d_g.element[e] = d_u.element[e] = out.element[e] = store<T>(0); });
    } else {
      const auto g_pack = load_pack<kWidth>(gate, i), u_pack = load_pack<kWidth>(gate + F, i);
      const auto d_pack = load_pack<kWidth>(da, i);
      each<kWidth>([&](int e) {
        const A g = load(g_pack.element[e]), u = load(u_pack.element[e]), d = load(d_pack.element[e]);
        const A sig = device_sigmoid(g), silu = g * sig, scaled = d * scale;
        d_scale += d * (silu * u);
        d_g.element[e] = store<T>(scaled * u * (sig * (1 + g * (1 - sig))));
        d_u.element[e] = store<T>(scaled * silu);
        out.element[e] = store<T>(scale * (silu * u));
      });
    }
    store_pack<kWidth>(d_gate, i, d_g);
    store_pack<kWidth>(d_gate + F, i, d_u);
    if (a != nullptr) store_pack<kWidth>(a, i, out);
  }
  if (args.d_weights == nullptr || args.pair_of_row == nullptr) return;
  d_scale = row_sum<kThreads>(d_scale);
  if (threadIdx.x == 0 && pair >= 0) static_cast<A*>(args.d_weights)[pair] = d_scale;
}

}  // namespace

cudaError_t swiglu_forward_cuda(const SwigluForward& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return with_width<T>(can_use_wide_packs<T>({args.gate_up, args.a}, {args.expert_hidden_size}), [&](auto width) {
      constexpr int kWidth = decltype(width)::width;
      const int threads = args.expert_hidden_size / kWidth < kLongRow ? kWarp : kThreadsPerBlock;
      return launch(forward_kernel<T, kWidth>, row_grid(args.num_rows, threads), row_block(threads), stream, args);
    });
  });
}

cudaError_t swiglu_backward_cuda(const SwigluBackward& args, cudaStream_t stream) {
  return visit_scalar(args.scalar, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool wide = can_use_wide_packs<T>({args.gate_up, args.da, args.d_gate_up, args.a}, {args.expert_hidden_size});
    return with_width<T>(wide, [&](auto width) {
      constexpr int kWidth = decltype(width)::width;
      return with_threads_per_row(args.expert_hidden_size / kWidth, [&](auto threads) {
        constexpr int kThreads = decltype(threads)::threads;
        return launch(backward_kernel<T, kWidth, kThreads>, row_grid(args.num_rows, kThreads), row_block(kThreads),
                      stream, args);
      });
    });
  });
}

}  // namespace mmoe::kernels
