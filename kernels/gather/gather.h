#pragma once
// Rows by index: rows[r, :] = x[index[r], :], zero where index[r] is negative. The token embedding (x the table), the
// input of the experts (index = token_of_row), and the backward pass of `combine`.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

struct Gather {
  Scalar scalar = Scalar::kFloat32;
  const void* x = nullptr;         // [*, D]
  const int32_t* index = nullptr;  // [R]
  void* rows = nullptr;            // [R, D]
  int64_t num_rows = 0;            // R
  int64_t size = 0;                // D
};

void gather_reference(const Gather& args);
void gather_cpu(const Gather& args);

}  // namespace mmoe::kernels
