#pragma once
// The product of two matrices of bf16 or of fp32, with sums in fp32. Each result is rounded once to the matrices' type:
//   out[i, j] = base[i, j] + sum over k of a[i, k] * b[k, j]
// or added to a sum that is kept in fp32 (where it begins, put in its place whatever that held):
//   sums[i, j] += sum over k of a[i, k] * b[k, j]
// Dims: M rows, N columns, K depth. Bits depend neither on M and N nor on the number of threads.

#include <cstdint>

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

// Element (i, j) stands at values[i * row_stride + j * column_stride]; one of the strides is 1.
struct MatrixView {
  const void* values = nullptr;
  int64_t row_stride = 1, column_stride = 1;
};

struct MatrixProduct {
  Scalar scalar = Scalar::kBFloat16;  // of a, b, base and out: or kFloat32
  MatrixView a;                       // [M, K]
  MatrixView b;                       // [K, N]
  const void* base = nullptr;         // [M, N], rows base_stride apart; it may be out itself. Null: zero
  void* out = nullptr;                // [M, N], rows out_stride apart. Null: sums are written
  float* sums = nullptr;              // [M, N], rows sums_stride apart
  bool begins = false;
  int64_t num_rows = 0, num_columns = 0, depth = 0;  // M, N, K
  int64_t base_stride = 0, out_stride = 0, sums_stride = 0;
};

void matrix_product_reference(const MatrixProduct& args);
void matrix_product_cpu(const MatrixProduct& args);

}  // namespace mmoe::kernels
