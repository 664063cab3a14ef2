#pragma once
// Who forms products of bf16 on the CPU that this runs on: the trainer chooses by it, and the memory of a job on the
// CPU depends on it.

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace mmoe {

enum class CpuBf16Products {
  kKernel,   // kernels/bf16_product, in fp32: no memory of the allocator's, and any number of rows
  kLibrary,  // LibTorch's oneDNN: scratch, a primitive for every number of rows, gradients first formed in bf16
};

// The library where the processor multiplies bf16 at a higher rate than fp32: with AMX, and AMD's AVX-512 (README of
// the kernel).
inline CpuBf16Products faster_cpu_bf16_products() {
#if defined(__x86_64__)
  constexpr unsigned kAmxBf16 = 1u << 22;  // leaf 7, EDX
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAmxBf16) != 0;
  const bool dot_products = __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512bf16");
  return amx || dot_products ? CpuBf16Products::kLibrary : CpuBf16Products::kKernel;
#else
  return CpuBf16Products::kLibrary;
#endif
}

// The one in force; tests may set it.
inline CpuBf16Products& cpu_bf16_products() {
  static CpuBf16Products chosen = faster_cpu_bf16_products();
  return chosen;
}

}  // namespace mmoe
