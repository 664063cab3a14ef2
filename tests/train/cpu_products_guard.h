#pragma once
// A test that sets who forms the CPU's products leaves them as it found them.

#include "sim/memory/cpu_products.h"

namespace mmoe {

class CpuProductsGuard {
 public:
  CpuProductsGuard() = default;
  CpuProductsGuard(const CpuProductsGuard&) = delete;
  CpuProductsGuard& operator=(const CpuProductsGuard&) = delete;
  ~CpuProductsGuard() {
    cpu_bf16_products() = bf16_;
    cpu_fp32_products() = fp32_;
    cpu_attention() = attention_;
  }

 private:
  CpuProducts bf16_ = cpu_bf16_products(), fp32_ = cpu_fp32_products(), attention_ = cpu_attention();
};

}  // namespace mmoe
