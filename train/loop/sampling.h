#pragma once
// The next token from its logits.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mmoe {

struct SamplingOptions {
  double temperature = 1;  // 0: always the most likely token
  int64_t top_k = 0;       // only the most likely tokens, so many; 0: all
  double top_p = 1;        // only the fewest most likely tokens whose probabilities reach this sum
  uint64_t seed = 0;
};

// A token drawn from softmax(logits / temperature), cut as the options say (Holtzman et al. 2020, arXiv:1904.09751, for
// top_p) and normalised again. `position` counts the draws: each is a function of (seed, position) alone. Equal logits
// rank by token.
int64_t sample_token(const at::Tensor& logits_V, const SamplingOptions& options, uint64_t position);

}  // namespace mmoe
