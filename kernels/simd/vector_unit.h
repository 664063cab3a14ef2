#pragma once
// The vector units for which the CPU's matrix products are compiled.

namespace mmoe::kernels {

enum class VectorUnit {
  kPlain,
  kAvx2,        // with fused multiply-adds
  kAvx512,      // F, BW, DQ, VL
  kAvx512Dots,  // and dot products of bf16 that are faster than fp32: AMD's; Intel's run at half of fp32's rate
};

// The best that this processor has. Any before it runs too.
inline VectorUnit best_vector_unit() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    const bool fast_dots = __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512bf16");
    return fast_dots ? VectorUnit::kAvx512Dots : VectorUnit::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return VectorUnit::kAvx2;
#endif
  return VectorUnit::kPlain;
}

// The one in force; tests may set it.
inline VectorUnit& vector_unit() {
  static VectorUnit unit = best_vector_unit();
  return unit;
}

}  // namespace mmoe::kernels
