#pragma once
// Least traffic between memory and processor of an operation: each operand once.

#include "sim/units/units.h"

namespace mmoe {

// What happens to the output of a matrix product: written, or read and added to (beta = 1).
enum class GemmOutput { kWritten, kAccumulated };

// C[m, n] (+)= A[m, k] B[k, n]: A, B and C once each, C twice when accumulated.
Bytes gemm_bytes(double m, double n, double k, double input_element, double output_element, GemmOutput output);

// Causal attention forward without storing scores (FlashAttention, Dao et al. 2022, arXiv:2205.14135): q, k, v read,
// the output written. Backward: q, k, v, output and its gradient read, three gradients written.
Bytes attention_forward_bytes(double tokens, double query_size, double kv_size, double element);
Bytes attention_backward_bytes(double tokens, double query_size, double kv_size, double element);

// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on flat buffers: master weights and two moments read and
// written, `copy_element` bytes of low-precision weight written (0: none); gradients, of the master weights' type, read
// or, where the clipped ones are written back, passed over twice.
Bytes adamw_bytes(double parameters, double master_element, double moment_element, double copy_element,
                  double gradient_passes);

}  // namespace mmoe
