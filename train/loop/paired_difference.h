#pragma once
// Is one model's loss lower than another's on the same windows, and how small a difference could these windows show?

#include <string>

#include "train/loop/evaluate.h"

namespace mmoe {

// Mean difference of two losses (nats per token, first minus second) with its 95 % interval. Windows that stand near
// each other share documents and are no independent samples, so the unit is a block of consecutive windows.
struct PairedDifference {
  double mean = 0;
  double low = 0, high = 0;
  // The true difference that a two-sided test at 5 % finds with a probability of 80 %.
  double smallest_resolvable = 0;
  int64_t num_blocks = 0;
  int64_t windows_per_block = 0;
};

// Ratio estimate over blocks of `windows_per_block` windows (the last may be shorter), with Student's t:
//   mean = sum d_b / sum n_b,  var = B / (B - 1) sum (d_b - mean n_b)^2 / (sum n_b)^2
// where block b has n_b tokens and loss difference d_b (Cochran 1977, Sampling Techniques, section 6.3).
// smallest_resolvable = (t_0.975 + t_0.8) sqrt(var), B - 1 degrees of freedom. Needs two blocks of the same windows.
PairedDifference paired_difference(const Evaluation& first, const Evaluation& second, int64_t windows_per_block);

// About 32 blocks; fewer, down to 8, where a document spans more windows than that leaves to a block. Throws
// ConfigError, naming `where`, below two windows.
int64_t block_length(int64_t num_windows, double windows_per_document, const std::string& where);

}  // namespace mmoe
