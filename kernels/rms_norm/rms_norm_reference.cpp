#include <cmath>

#include "kernels/rms_norm/rms_norm.h"

namespace mmoe::kernels {
namespace {

template <class T>
void forward(const RmsNormForward& a) {
  using A = Accumulate<T>;
  const T* weight = static_cast<const T*>(a.weight);
  for (int64_t r = 0; r < a.num_vectors; ++r) {
    const int64_t row = r / a.vectors_per_row, place = r % a.vectors_per_row * a.size;
    const T* x = static_cast<const T*>(a.x) + row * a.x_stride + place;
    T* y = static_cast<T*>(a.y) + row * a.y_stride + place;
    A sum = 0;
    for (int64_t d = 0; d < a.size; ++d) sum += load(x[d]) * load(x[d]);
    const A rstd = 1 / std::sqrt(sum / static_cast<A>(a.size) + static_cast<A>(a.epsilon));
    for (int64_t d = 0; d < a.size; ++d) y[d] = store<T>(load(x[d]) * rstd * load(weight[d]));
    if (a.rstd != nullptr) static_cast<A*>(a.rstd)[r] = rstd;
  }
}

template <class T>
void backward(const RmsNormBackward& a) {
  using A = Accumulate<T>;
  const T* weight = static_cast<const T*>(a.weight);
  const T* d_residual = static_cast<const T*>(a.d_residual);
  A* d_weight = static_cast<A*>(a.d_weight);
  for (int64_t r = 0; r < a.num_vectors; ++r) {
    const int64_t row = r / a.vectors_per_row, place = r % a.vectors_per_row * a.size;
    const T* dy = static_cast<const T*>(a.dy) + row * a.dy_stride + place;
    const T* x = static_cast<const T*>(a.x) + row * a.x_stride + place;
    T* dx = static_cast<T*>(a.dx) + row * a.dx_stride + place;
    const T* residual = d_residual == nullptr ? nullptr : d_residual + row * a.dx_stride + place;
    const A rstd = static_cast<const A*>(a.rstd)[r];
    A sum = 0;
    for (int64_t d = 0; d < a.size; ++d) sum += load(dy[d]) * load(weight[d]) * load(x[d]) * rstd;
    const A mean = sum / static_cast<A>(a.size);
    for (int64_t d = 0; d < a.size; ++d) {
      const A h = load(x[d]) * rstd, g = load(dy[d]) * load(weight[d]);
      if (d_weight != nullptr) d_weight[d] += load(dy[d]) * h;
      dx[d] = store<T>((residual == nullptr ? 0 : load(residual[d])) + rstd * (g - h * mean));
    }
  }
}

}  // namespace

void rms_norm_forward_reference(const RmsNormForward& args) {
  visit_scalar(args.scalar, [&](auto tag) { forward<typename decltype(tag)::type>(args); });
}

void rms_norm_backward_reference(const RmsNormBackward& args) {
  visit_scalar(args.scalar, [&](auto tag) { backward<typename decltype(tag)::type>(args); });
}

}  // namespace mmoe::kernels
