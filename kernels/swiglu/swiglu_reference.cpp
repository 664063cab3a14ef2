#include <cmath>

#include "kernels/swiglu/swiglu.h"

namespace mmoe::kernels {
namespace {

template <class A>
A sigmoid(A x) {
  return 1 / (1 + std::exp(-x));
}

// The row's routing weight: 1 without routing, 0 on padding.
template <class A, class Args>
A scale_of_row(const Args& a, int64_t r) {
  if (a.pair_of_row == nullptr) return 1;
  return a.pair_of_row[r] < 0 ? 0 : static_cast<const A*>(a.weights)[a.pair_of_row[r]];
}

template <class Args>
bool is_padding(const Args& a, int64_t r) {
  return a.pair_of_row != nullptr && a.pair_of_row[r] < 0;
}

template <class T>
void forward(const SwigluForward& a) {
  using A = Accumulate<T>;
  const int64_t F = a.expert_hidden_size;
  for (int64_t r = 0; r < a.num_rows; ++r) {
    const T* gate = static_cast<const T*>(a.gate_up) + r * 2 * F;
    T* out = static_cast<T*>(a.a) + r * F;
    const A scale = scale_of_row<A>(a, r);
    for (int64_t f = 0; f < F; ++f) {
      const A g = load(gate[f]), u = load(gate[F + f]);
      out[f] = store<T>(is_padding(a, r) ? 0 : scale * (g * sigmoid(g) * u));
    }
  }
}

template <class T>
void backward(const SwigluBackward& a) {
  using A = Accumulate<T>;
  const int64_t F = a.expert_hidden_size;
  for (int64_t r = 0; r < a.num_rows; ++r) {
    const T* gate = static_cast<const T*>(a.gate_up) + r * 2 * F;
    const T* da = static_cast<const T*>(a.da) + r * F;
    T* d_gate = static_cast<T*>(a.d_gate_up) + r * 2 * F;
    T* out = static_cast<T*>(a.a) + r * F;
    const A scale = scale_of_row<A>(a, r);
    A d_weight = 0;
    for (int64_t f = 0; f < F; ++f) {
      const A g = load(gate[f]), u = load(gate[F + f]), d = load(da[f]);
      const A sig = sigmoid(g), silu = g * sig;
      d_weight += d * (silu * u);
      d_gate[f] = store<T>(is_padding(a, r) ? 0 : d * scale * u * (sig * (1 + g * (1 - sig))));
      d_gate[F + f] = store<T>(is_padding(a, r) ? 0 : d * scale * silu);
      if (a.a != nullptr) out[f] = store<T>(is_padding(a, r) ? 0 : scale * (silu * u));
    }
    if (a.d_weights != nullptr && a.pair_of_row != nullptr && a.pair_of_row[r] >= 0) {
      static_cast<A*>(a.d_weights)[a.pair_of_row[r]] = d_weight;
    }
  }
}

}  // namespace

void swiglu_forward_reference(const SwigluForward& args) {
  visit_scalar(args.scalar, [&](auto tag) { forward<typename decltype(tag)::type>(args); });
}

void swiglu_backward_reference(const SwigluBackward& args) {
  visit_scalar(args.scalar, [&](auto tag) { backward<typename decltype(tag)::type>(args); });
}

}  // namespace mmoe::kernels
