#pragma once
// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) in the half-split convention of Hugging Face
// (rotate_half), in place on the first `num_rotated_heads` heads of each row of a fused q, k, v buffer:
//   angle = position * theta^(-2 i / head_dim),  position = row % seq_len + position_offset
//   x'[i]                = x[i] * cos(angle) - x[i + head_dim / 2] * sin(angle)       0 <= i < head_dim / 2
//   x'[i + head_dim / 2] = x[i + head_dim / 2] * cos(angle) + x[i] * sin(angle)

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

enum class RopeDirection { kForward, kInverse };  // the inverse rotation is the backward pass

struct Rope {
  Scalar scalar = Scalar::kFloat32;
  void* x = nullptr;          // [num_rows, num_heads, head_dim]: query heads, key heads, then heads left alone
  const void* cos = nullptr;  // [>= seq_len + position_offset, head_dim / 2] accumulate, from rope_fill_table
  const void* sin = nullptr;  // likewise
  int64_t num_rows = 0;       // tokens, sequence by sequence
  int64_t num_heads = 0;      // of the whole buffer
  int64_t num_rotated_heads = 0;
  int64_t head_dim = 0;  // even
  int64_t seq_len = 0;
  int64_t position_offset = 0;
  RopeDirection direction = RopeDirection::kForward;
};

void rope_reference(const Rope& args);
void rope_cpu(const Rope& args);

// Fills cos and sin, [num_positions, head_dim / 2] of accumulate(scalar) in host memory; angles are formed in double.
void rope_fill_table(Scalar scalar, double theta, int64_t num_positions, int64_t head_dim, void* cos, void* sin);

}  // namespace mmoe::kernels
