#pragma once
// Root-mean-square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467):
//   y[r, d] = x[r, d] * rstd[r] * weight[d],  rstd[r] = 1 / sqrt(mean over d of x[r, d]^2 + epsilon)
// Dims: R vectors of size D. A strided row holds `vectors_per_row` vectors one after another (the heads in QK-norm), so
// vector r starts at element (r / vectors_per_row) * stride + (r % vectors_per_row) * D.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

struct RmsNormForward {
  Scalar scalar = Scalar::kFloat32;
  const void* x = nullptr;       // [R, D], strided
  const void* weight = nullptr;  // [D]
  void* y = nullptr;             // [R, D], strided; may alias x
  void* rstd = nullptr;          // [R] accumulate, or null if no backward pass follows
  int64_t num_vectors = 0;       // R
  int64_t size = 0;              // D
  int64_t vectors_per_row = 1;
  int64_t x_stride = 0, y_stride = 0;  // elements from one strided row to the next
  double epsilon = 1e-6;
};

// With h = x * rstd and g = dy * weight:
//   dx[r, d] = d_residual[r, d] + rstd[r] * (g[r, d] - h[r, d] * mean over d of (g * h)[r, :])
//   d_weight[d] += sum over r of dy[r, d] * h[r, d]
struct RmsNormBackward {
  Scalar scalar = Scalar::kFloat32;
  const void* dy = nullptr;          // [R, D], strided
  const void* x = nullptr;           // [R, D], strided: the input of the forward pass
  const void* weight = nullptr;      // [D]
  const void* rstd = nullptr;        // [R] accumulate, from the forward pass
  const void* d_residual = nullptr;  // [R, D] with dx's stride, or null for zero
  void* dx = nullptr;                // [R, D], strided; may alias dy or d_residual
  void* d_weight = nullptr;          // [D] accumulate, added to; null leaves it out
  int64_t num_vectors = 0;           // R
  int64_t size = 0;                  // D
  int64_t vectors_per_row = 1;
  int64_t dy_stride = 0, x_stride = 0, dx_stride = 0;
  void* workspace = nullptr;  // CPU: may be null; CUDA: rms_norm_backward_cuda_workspace_size bytes
};

void rms_norm_forward_reference(const RmsNormForward& args);
void rms_norm_forward_cpu(const RmsNormForward& args);

void rms_norm_backward_reference(const RmsNormBackward& args);
void rms_norm_backward_cpu(const RmsNormBackward& args);

// Bytes of `workspace`: one partial weight gradient for each of at most 32 ranges of vectors.
size_t rms_norm_backward_cpu_workspace_size(const RmsNormBackward& args);

}  // namespace mmoe::kernels
