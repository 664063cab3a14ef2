#pragma once
// Backward pass of the token embedding (its forward pass is `gather`), added in ascending t:
//   d_weight[tokens[t], :] += dx[t, :]
// Dims: T tokens, V vocabulary, D hidden size. Tokens outside [0, V) are skipped.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

struct EmbeddingBackward {
  Scalar scalar = Scalar::kFloat32;
  const void* dx = nullptr;         // [T, D]
  const int32_t* tokens = nullptr;  // [T]
  void* d_weight = nullptr;         // [V, D] accumulate, added to
  int64_t num_tokens = 0;           // T
  int64_t vocab_size = 0;           // V
  int64_t size = 0;                 // D
  void* workspace = nullptr;        // CUDA only: embedding_backward_cuda_workspace_size bytes
};

void embedding_backward_reference(const EmbeddingBackward& args);
void embedding_backward_cpu(const EmbeddingBackward& args);

}  // namespace mmoe::kernels
