#pragma once
// Cross-entropy of next-token prediction and its gradient in place of the logits. Dims: R rows, V vocabulary.
//   loss[r] = logsumexp(logits[r, :]) - logits[r, targets[r]], in nats
//   d_logits[r, v] = scale * (softmax(logits[r, :])[v] - (v == targets[r]))
// Rows with target kIgnoredTarget have loss 0 and gradient 0; any other target outside [0, V) gives NaN.

#include "kernels/types/scalar.h"

namespace mmoe::kernels {

inline constexpr int32_t kIgnoredTarget = -100;

enum class LogitsGradient { kOmit, kInPlace };  // kOmit leaves the logits as they are (evaluation)

struct CrossEntropy {
  Scalar scalar = Scalar::kFloat32;
  void* logits = nullptr;            // [R, V], strided; replaced by their gradient if asked for
  const int32_t* targets = nullptr;  // [R]
  void* loss = nullptr;              // [R] accumulate
  int64_t num_rows = 0;              // R
  int64_t vocab_size = 0;            // V
  int64_t stride = 0;                // elements from one row to the next, at least V
  double scale = 1;                  // of the gradient, e.g. 1 / targets in the global batch
  LogitsGradient gradient = LogitsGradient::kInPlace;
};

void cross_entropy_reference(const CrossEntropy& args);
void cross_entropy_cpu(const CrossEntropy& args);

}  // namespace mmoe::kernels
