#pragma once
// One update of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2), element by element, in the accumulate
// type, with the gradient clipped on the way and the weights that operations read written in the same pass:
//   g = gradient[i] / gradient_divisor
//   m[i] = beta1 m[i] + (1 - beta1) g;  v[i] = beta2 v[i] + (1 - beta2) g^2
//   master[i] = master[i] (1 - rate decay) - rate (m[i] / (1 - beta1^step)) / (sqrt(v[i] / (1 - beta2^step)) + epsilon)
//   value[i] = master[i], rounded

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

struct AdamW {
  Scalar scalar = Scalar::kFloat32;  // of `value`
  void* master = nullptr;            // [N] accumulate
  void* first_moment = nullptr;      // [N] accumulate: m
  void* second_moment = nullptr;     // [N] accumulate: v
  const void* gradient = nullptr;    // [N] accumulate
  void* value = nullptr;             // [N]; null leaves it out
  int64_t num_values = 0;            // N
  int64_t step = 1;                  // of this update, from 1
  double gradient_divisor = 1;
  double rate = 0, beta1 = 0, beta2 = 0, decay = 0, epsilon = 0;
};

void adamw_reference(const AdamW& args);
void adamw_cpu(const AdamW& args);

}  // namespace mmoe::kernels
