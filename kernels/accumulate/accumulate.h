#pragma once
// sum[i] += value[i] where the sum is kept in the accumulate type of the values: a weight gradient that a product has
// formed in the compute type. Where the sum begins, sum[i] = value[i] whatever it held.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

struct AccumulateValues {
  Scalar scalar = Scalar::kFloat32;  // of the values
  const void* values = nullptr;      // [N]
  void* sums = nullptr;              // [N] accumulate
  int64_t num_values = 0;            // N
  bool begins = false;
};

void accumulate_values_reference(const AccumulateValues& args);
void accumulate_values_cpu(const AccumulateValues& args);

}  // namespace mmoe::kernels
