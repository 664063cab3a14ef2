#pragma once
// Run-time choice of the vector unit for the CPU versions. Their loops are plain C++ that the compiler vectorises
// (`#pragma omp simd`, -fopenmp-simd); MMOE_TARGET_CLONES compiles a function once for each level of x86-64, and the
// loader picks the best that the machine has. Everything that is called inside must be MMOE_ALWAYS_INLINE.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/types/scalar.h"

#if defined(__clang__) || !defined(__GNUC__) || !defined(__x86_64__) || !defined(__linux__) || \
    defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(MMOE_ONE_TARGET)
#define MMOE_TARGET_CLONES
#elif __GNUC__ >= 12
#define MMOE_TARGET_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MMOE_TARGET_CLONES __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#endif

#define MMOE_ALWAYS_INLINE __attribute__((always_inline)) inline

// Defines name(scalar, args, begin, end), which runs body<T>(args, begin, end) compiled for the machine it runs on.
#define MMOE_SIMD_FUNCTION(name, body, Args)                                                         \
  MMOE_TARGET_CLONES void name##_f64(const Args& a, int64_t b, int64_t e) { body<double>(a, b, e); } \
  MMOE_TARGET_CLONES void name##_f32(const Args& a, int64_t b, int64_t e) { body<float>(a, b, e); }  \
  MMOE_TARGET_CLONES void name##_bf16(const Args& a, int64_t b, int64_t e) { body<bf16>(a, b, e); }  \
  void name(Scalar scalar, const Args& a, int64_t b, int64_t e) {                                    \
    if (scalar == Scalar::kFloat64) return name##_f64(a, b, e);                                      \
    if (scalar == Scalar::kFloat32) return name##_f32(a, b, e);                                      \
    name##_bf16(a, b, e);                                                                            \
  }

// As MMOE_SIMD_FUNCTION for operations whose data is float or double only.
#define MMOE_SIMD_ACCUMULATE_FUNCTION(name, body, Args)                                              \
  MMOE_TARGET_CLONES void name##_f64(const Args& a, int64_t b, int64_t e) { body<double>(a, b, e); } \
  MMOE_TARGET_CLONES void name##_f32(const Args& a, int64_t b, int64_t e) { body<float>(a, b, e); }  \
  void name(Scalar scalar, const Args& a, int64_t b, int64_t e) {                                    \
    scalar == Scalar::kFloat64 ? name##_f64(a, b, e) : name##_f32(a, b, e);                          \
  }

namespace mmoe::kernels {

// exp in double: the library's, called once an element; double serves tests, not speed.
MMOE_ALWAYS_INLINE double fast_exp(double x) { return std::exp(x); }

// exp in float within 2 ulp; 0 for x < -86.9 (a result below 2e-38), infinity above 88.7, NaN for NaN.
// x = n ln 2 + r with ln 2 in two parts (Cody & Waite), exp(r) by the minimax polynomial of the Cephes library (expf).
MMOE_ALWAYS_INLINE float fast_exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  uint32_t word;
  std::memcpy(&word, &shifted, sizeof word);
  // 2^(n - 1) as bits, then doubled: n = 128 is in range, its power alone is not.
  const uint32_t half_power = (word + 126u) << 23;
  float half_scale;
  std::memcpy(&half_scale, &half_power, sizeof half_scale);
  const float y = p * half_scale * 2.0f;
  const float low = x < -86.9f ? 0.0f : y;
  return x > 88.7228394f ? std::numeric_limits<float>::infinity() : low;
}

// Long loops over bf16 work on tiles that are widened to float and narrowed back in loops of their own: mixed with
// 16-bit elements the arithmetic vectorises to half the speed.
inline constexpr int64_t kTile = 512;

// n elements as their accumulate type: x itself where that is its type, else widened into `buffer`.
template <class T>
MMOE_ALWAYS_INLINE const Accumulate<T>* widen(const T* x, Accumulate<T>* buffer, int64_t n) {
  if constexpr (std::is_same_v<T, Accumulate<T>>) {
    return x;
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) buffer[i] = load(x[i]);
    return buffer;
  }
}

// Where to write n results that `narrow` shall round into y: y itself where the types agree, else `buffer`.
template <class T>
MMOE_ALWAYS_INLINE Accumulate<T>* wide_target(T* y, Accumulate<T>* buffer) {
  if constexpr (std::is_same_v<T, Accumulate<T>>) {
    return y;
  } else {
    return buffer;
  }
}
template <class T>
MMOE_ALWAYS_INLINE void narrow(const Accumulate<T>* target, T* y, int64_t n) {
  if constexpr (!std::is_same_v<T, Accumulate<T>>) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = store<T>(target[i]);
  }
}

// Asks for the cache lines of n elements that are about to be written and were not read: the machine looks ahead of
// reads by itself, of writes alone it does not. They may lie beyond what is allocated.
template <class T>
MMOE_ALWAYS_INLINE void prefetch_for_writing(const T* x, int64_t n) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < n; i += kLine) __builtin_prefetch(x + i, 1);
}

// 1 / (1 + exp(-x)).
template <class A>
MMOE_ALWAYS_INLINE A sigmoid(A x) {
  return 1 / (1 + fast_exp(-x));
}

}  // namespace mmoe::kernels
