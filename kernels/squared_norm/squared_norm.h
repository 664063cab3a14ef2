#pragma once
// The sum over i of values[i]^2. The CPU version forms sums of 2,048 values in their own type, which may overflow to
// infinity, and adds those up in double.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

struct SquaredNorm {
  Scalar scalar = Scalar::kFloat32;  // kFloat32 or kFloat64
  const void* values = nullptr;      // [N]
  int64_t num_values = 0;            // N
};

double squared_norm_reference(const SquaredNorm& args);
double squared_norm_cpu(const SquaredNorm& args);

}  // namespace mmoe::kernels
