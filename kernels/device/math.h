#pragma once
// Functions of the device in float and double, to their library's full precision.

#include <cmath>
#include <limits>

#include "kernels/device/launch.h"

namespace mmoe::kernels {

template <class A>
inline constexpr A kInfinity = std::numeric_limits<A>::infinity();
template <class A>
inline constexpr A kNan = std::numeric_limits<A>::quiet_NaN();

__device__ __forceinline__ float device_exp(float x) { return expf(x); }
__device__ __forceinline__ double device_exp(double x) { return exp(x); }
__device__ __forceinline__ float device_log(float x) { return logf(x); }
__device__ __forceinline__ double device_log(double x) { return log(x); }
__device__ __forceinline__ float device_sqrt(float x) { return sqrtf(x); }
__device__ __forceinline__ double device_sqrt(double x) { return sqrt(x); }

template <class A>
__device__ __forceinline__ A device_sigmoid(A x) {
  return 1 / (1 + device_exp(-x));
}

}  // namespace mmoe::kernels
