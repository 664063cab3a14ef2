#pragma once
// The product of two bf16 matrices, with sums in fp32. Written in bf16, each result is rounded once:
//   out[i, j] = base[i, j] + sum over k of a[i, k] * b[k, j]
// or added to a sum that is kept in fp32 (where it begins, put in its place whatever that held):
//   sums[i, j] += sum over k of a[i, k] * b[k, j]
// Dims: M rows, N columns, K depth. Bits depend neither on M and N nor on the number of threads.

#include "kernels/types/bf16.h"

namespace mmoe::kernels {

// Element (i, j) stands at values[i * row_stride + j * column_stride]; one of the strides is 1.
struct Bf16Matrix {
  const bf16* values = nullptr;
  int64_t row_stride = 1, column_stride = 1;
};

struct Bf16Product {
  Bf16Matrix a;                // [M, K]
  Bf16Matrix b;                // [K, N]
  const bf16* base = nullptr;  // [M, N], rows base_stride apart; it may be out itself. Null: zero
  bf16* out = nullptr;         // [M, N], rows out_stride apart. Null: sums are written
  float* sums = nullptr;       // [M, N], rows sums_stride apart
  bool begins = false;
  int64_t num_rows = 0, num_columns = 0, depth = 0;  // M, N, K
  int64_t base_stride = 0, out_stride = 0, sums_stride = 0;
};

void bf16_product_reference(const Bf16Product& args);
void bf16_product_cpu(const Bf16Product& args);

}  // namespace mmoe::kernels
