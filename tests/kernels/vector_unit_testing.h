#pragma once
// Tests of CPU versions that are compiled for each vector unit: they run once for every unit and scalar type; units
// that the processor lacks skip.

#include "kernels/simd/vector_unit.h"
#include "tests/kernels/kernel_testing.h"

namespace mmoe::kernels {

struct VectorUnitCase {
  VectorUnit unit;
  Scalar scalar;
};

inline std::vector<VectorUnitCase> vector_unit_cases() {
  std::vector<VectorUnitCase> all;
  for (const VectorUnit unit : {VectorUnit::kPlain, VectorUnit::kAvx2, VectorUnit::kAvx512, VectorUnit::kAvx512Dots}) {
    for (const Scalar scalar : {Scalar::kFloat32, Scalar::kBFloat16}) all.push_back({unit, scalar});
  }
  return all;
}
inline std::string vector_unit_case_name(const testing::TestParamInfo<VectorUnitCase>& info) {
  const std::string units[] = {"plain", "avx2", "avx512", "avx512_dots"};
  return units[static_cast<int>(info.param.unit)] + (info.param.scalar == Scalar::kBFloat16 ? "_bf16" : "_fp32");
}

class VectorUnitTest : public testing::TestWithParam<VectorUnitCase> {
 protected:
  void SetUp() override {
    if (GetParam().unit > best_vector_unit()) GTEST_SKIP() << "not on this processor";
    vector_unit() = GetParam().unit;
  }
  void TearDown() override { vector_unit() = best_vector_unit(); }

  Scalar scalar() const { return GetParam().scalar; }
};

}  // namespace mmoe::kernels
