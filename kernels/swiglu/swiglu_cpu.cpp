#include <algorithm>

#include "kernels/parallel/parallel.h"
#include "kernels/simd/simd.h"
#include "kernels/swiglu/swiglu.h"

namespace mmoe::kernels {
namespace {

template <class T>
MMOE_ALWAYS_INLINE void forward(const SwigluForward& args, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  const int64_t F = args.expert_hidden_size;
  alignas(64) A g_buffer[kTile], u_buffer[kTile], out_buffer[kTile];
  for (int64_t r = begin; r < end; ++r) {
    const T* gate = static_cast<const T*>(args.gate_up) + r * 2 * F;
    const T* up = gate + F;
    T* a = static_cast<T*>(args.a) + r * F;
    const int64_t pair = args.pair_of_row == nullptr ? 0 : args.pair_of_row[r];
    if (pair < 0) {
      std::fill(a, a + F, store<T>(0));
      continue;
    }
    const A scale = args.pair_of_row == nullptr ? 1 : static_cast<const A*>(args.weights)[pair];
    for (int64_t first = 0; first < F; first += kTile) {
      const int64_t n = std::min(kTile, F - first);
      const A* g = widen(gate + first, g_buffer, n);
      const A* u = widen(up + first, u_buffer, n);
      A* out = wide_target(a + first, out_buffer);
#pragma omp simd
      for (int64_t f = 0; f < n; ++f) out[f] = scale * (g[f] * sigmoid(g[f]) * u[f]);
      narrow(out, a + first, n);
    }
  }
}
MMOE_SIMD_FUNCTION(forward_rows, forward, SwigluForward)

// One row that is not padding; returns the gradient of its scale. `a` null: the forward result is not wanted.
template <class T>
MMOE_ALWAYS_INLINE Accumulate<T> backward_row(const T* da, const T* gate, Accumulate<T> scale, T* d_gate, T* a,
                                              int64_t F) {
  using A = Accumulate<T>;
  alignas(64) A d_buffer[kTile], g_buffer[kTile], u_buffer[kTile], dg_buffer[kTile], du_buffer[kTile], a_buffer[kTile];
  A d_scale = 0;
  for (int64_t first = 0; first < F; first += kTile) {
    const int64_t n = std::min(kTile, F - first);
    const A* d = widen(da + first, d_buffer, n);
    const A* g = widen(gate + first, g_buffer, n);
    const A* u = widen(gate + F + first, u_buffer, n);
    A* dg = wide_target(d_gate + first, dg_buffer);
    A* du = wide_target(d_gate + F + first, du_buffer);
    A* out = a == nullptr ? a_buffer : wide_target(a + first, a_buffer);
#pragma omp simd reduction(+ : d_scale)
    for (int64_t f = 0; f < n; ++f) {
      const A x = g[f], y = u[f], dy = d[f];
      const A sig = sigmoid(x), silu = x * sig, scaled = dy * scale;
      d_scale += dy * (silu * y);
      dg[f] = scaled * y * (sig * (1 + x * (1 - sig)));
      du[f] = scaled * silu;
      out[f] = scale * (silu * y);
    }
    narrow(dg, d_gate + first, n);
    narrow(du, d_gate + F + first, n);
    if (a != nullptr) narrow(out, a + first, n);
  }
  return d_scale;
}

template <class T>
MMOE_ALWAYS_INLINE void backward(const SwigluBackward& args, int64_t begin, int64_t end) {
  using A = Accumulate<T>;
  const int64_t F = args.expert_hidden_size;
  for (int64_t r = begin; r < end; ++r) {
    T* d_gate = static_cast<T*>(args.d_gate_up) + r * 2 * F;
    T* a = args.a == nullptr ? nullptr : static_cast<T*>(args.a) + r * F;
    const int64_t pair = args.pair_of_row == nullptr ? 0 : args.pair_of_row[r];
    if (pair < 0) {
      std::fill(d_gate, d_gate + 2 * F, store<T>(0));
      if (a != nullptr) std::fill(a, a + F, store<T>(0));
      continue;
    }
    const A scale = args.pair_of_row == nullptr ? 1 : static_cast<const A*>(args.weights)[pair];
    const T* da = static_cast<const T*>(args.da) + r * F;
    const T* gate = static_cast<const T*>(args.gate_up) + r * 2 * F;
    const A d_scale = backward_row(da, gate, scale, d_gate, a, F);
    if (args.d_weights != nullptr && args.pair_of_row != nullptr) static_cast<A*>(args.d_weights)[pair] = d_scale;
  }
}
MMOE_SIMD_FUNCTION(backward_rows, backward, SwigluBackward)

}  // namespace

void swiglu_forward_cpu(const SwigluForward& args) {
  const int64_t bytes = 3 * args.expert_hidden_size * static_cast<int64_t>(size_of(args.scalar));
  parallel_for(0, args.num_rows, rows_grain(bytes),
               [&](int64_t begin, int64_t end) { forward_rows(args.scalar, args, begin, end); });
}

void swiglu_backward_cpu(const SwigluBackward& args) {
  const int64_t bytes = 6 * args.expert_hidden_size * static_cast<int64_t>(size_of(args.scalar));
  parallel_for(0, args.num_rows, rows_grain(bytes),
               [&](int64_t begin, int64_t end) { backward_rows(args.scalar, args, begin, end); });
}

}  // namespace mmoe::kernels
