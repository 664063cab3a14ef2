#pragma once
// Who forms products of bf16 on the CPU that this runs on: the trainer chooses by it, and the memory of a job on the
// CPU depends on it.

namespace mmoe {

enum class CpuBf16Products {
  kKernel,   // kernels/bf16_product, in fp32: no memory of the allocator's, and any number of rows
  kLibrary,  // LibTorch's oneDNN: scratch, a primitive for every number of rows, gradients in bf16 before they are
             // added
};

// The library where the processor multiplies bf16 at a higher rate than fp32: with AMX, and AMD's AVX-512 (README of
// the kernel). Tests may set it.
inline CpuBf16Products& cpu_bf16_products() {
#if defined(__x86_64__)
  static CpuBf16Products chosen =
      __builtin_cpu_supports("amx-bf16") || (__builtin_cpu_is("amd") && __builtin_cpu_supports("avx512bf16"))
          ? CpuBf16Products::kLibrary
          : CpuBf16Products::kKernel;
#else
  static CpuBf16Products chosen = CpuBf16Products::kLibrary;
#endif
  return chosen;
}

}  // namespace mmoe
