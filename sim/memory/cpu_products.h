#pragma once
// Who forms products of matrices on the CPU that this runs on: the trainer chooses by it, and the memory of a job on
// the CPU depends on it.

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace mmoe {

// Measured for the READMEs of kernels/matrix_product and kernels/attention.
enum class CpuProducts {
  kKernel,   // our own: no memory of the allocator's, any number of rows, gradients of bf16 summed in fp32
  kLibrary,  // LibTorch's. Of bf16, by oneDNN: scratch, a primitive for every number of rows, gradients formed in bf16
};

// The library with AMX, which the kernel does not use.
inline CpuProducts faster_cpu_bf16_products() {
#if defined(__x86_64__)
  constexpr unsigned kAmxBf16 = 1u << 22;  // leaf 7, EDX
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAmxBf16) != 0;
  return amx ? CpuProducts::kLibrary : CpuProducts::kKernel;
#else
  return CpuProducts::kLibrary;
#endif
}

// The kernel on AMD's processors with AVX-512, where MKL is slower, most of all with few rows.
inline CpuProducts faster_cpu_fp32_products() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512bw") ? CpuProducts::kKernel : CpuProducts::kLibrary;
#else
  return CpuProducts::kLibrary;
#endif
}

// Attention's products: with AMX the library's, in bf16.
inline CpuProducts faster_cpu_attention() { return faster_cpu_bf16_products(); }
// Of larger heads, and of fp64, the library attends.
inline constexpr int64_t kMostKernelHeadDim = 256;

// Those in force; tests may set them.
inline CpuProducts& cpu_bf16_products() {
  static CpuProducts chosen = faster_cpu_bf16_products();
  return chosen;
}
inline CpuProducts& cpu_fp32_products() {
  static CpuProducts chosen = faster_cpu_fp32_products();
  return chosen;
}
inline CpuProducts& cpu_attention() {
  static CpuProducts chosen = faster_cpu_attention();
  return chosen;
}

}  // namespace mmoe
