#pragma once
// The scalar types of the kernels. An args struct names the type of its void* data once, in a field `Scalar scalar`;
// fields described as "accumulate" hold Accumulate<scalar>: float for bf16 and float, double for double.

#include <cstddef>
#include <type_traits>

#include "kernels/types/bf16.h"

namespace mmoe::kernels {

enum class Scalar { kFloat64, kFloat32, kBFloat16 };

// The type in which sums over T are formed.
template <class T>
using Accumulate = std::conditional_t<std::is_same_v<T, double>, double, float>;

// The type in which sums over `scalar` are formed.
constexpr Scalar accumulate(Scalar scalar) { return scalar == Scalar::kFloat64 ? Scalar::kFloat64 : Scalar::kFloat32; }

// Bytes of one element.
constexpr size_t size_of(Scalar scalar) { return scalar == Scalar::kFloat64 ? 8 : scalar == Scalar::kFloat32 ? 4 : 2; }

// Carries a type to a generic lambda: visit_scalar(s, [&](auto tag) { using T = typename decltype(tag)::type; ... }).
template <class T>
struct ScalarTag {
  using type = T;
};

// Calls `body` with the tag of `scalar` and returns what it returns.
template <class Body>
auto visit_scalar(Scalar scalar, Body&& body) {
  switch (scalar) {
    case Scalar::kFloat64:
      return body(ScalarTag<double>{});
    case Scalar::kFloat32:
      return body(ScalarTag<float>{});
    default:
      return body(ScalarTag<bf16>{});
  }
}

// As visit_scalar, over the accumulate types alone (kBFloat16 counts as float).
template <class Body>
auto visit_accumulate(Scalar scalar, Body&& body) {
  return scalar == Scalar::kFloat64 ? body(ScalarTag<double>{}) : body(ScalarTag<float>{});
}

// One element as its accumulate type, and back with rounding to T.
template <class T>
MMOE_HOST_DEVICE inline Accumulate<T> load(const T& value) {
  return static_cast<Accumulate<T>>(value);
}
template <class T>
MMOE_HOST_DEVICE inline T store(Accumulate<T> value) {
  return static_cast<T>(value);
}

}  // namespace mmoe::kernels
