#pragma once
// Sum of each token's expert outputs, whose routing weights SwiGLU has already applied. Dims: T tokens, K slots, R
// rows, D hidden size. Sums are formed in the accumulate type and rounded once.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

// out[t, :] = base[t, :] + sum over j in ascending order of rows[row_of_pair[t, j], :], slots below 0 skipped. Also the
// backward pass of the experts' gather.
struct Combine {
  Scalar scalar = Scalar::kFloat32;
  const void* rows = nullptr;            // [R, D]
  const int32_t* row_of_pair = nullptr;  // [T, K]
  const void* base = nullptr;            // [T, D], or null for zero
  void* out = nullptr;                   // [T, D]; may alias base
  int64_t num_tokens = 0, top_k = 0;
  int64_t size = 0;  // D
};

// out[token_of_row[r], :] += rows[r, :] over rows in which every token occurs at most once (one expert's segment);
// negative tokens are skipped. One expert after another this adds in the order of the experts.
struct ScatterAddRows {
  Scalar scalar = Scalar::kFloat32;       // of rows
  Scalar out_scalar = Scalar::kFloat32;   // equal to scalar, or its accumulate type
  const void* rows = nullptr;             // [R, D]
  const int32_t* token_of_row = nullptr;  // [R]
  void* out = nullptr;                    // [T, D]
  int64_t num_rows = 0;                   // R
  int64_t size = 0;                       // D
};

void combine_reference(const Combine& args);
void combine_cpu(const Combine& args);

void scatter_add_rows_reference(const ScatterAddRows& args);
void scatter_add_rows_cpu(const ScatterAddRows& args);

}  // namespace mmoe::kernels
