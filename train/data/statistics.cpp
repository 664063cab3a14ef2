#include "train/data/statistics.h"

#include <cmath>
#include <numeric>

namespace mmoe {

std::optional<double> unigram_entropy_bits_per_byte(const std::vector<int64_t>& token_counts, int64_t num_bytes) {
  if (num_bytes <= 0) return std::nullopt;
  const auto total = static_cast<double>(std::accumulate(token_counts.begin(), token_counts.end(), int64_t{0}));
  double bits = 0;
  for (const int64_t count : token_counts) {
    if (count > 0) bits -= static_cast<double>(count) * std::log2(static_cast<double>(count) / total);
  }
  return bits / static_cast<double>(num_bytes);
}

}  // namespace mmoe
