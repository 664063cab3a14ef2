#pragma once
// What token counts alone say about a text.

#include <cstdint>
#include <optional>
#include <vector>

namespace mmoe {

// Entropy of a token drawn without context, per byte of text: H = -sum_i n_i log2(n_i / N) / num_bytes, N = sum_i n_i.
// It is the loss of the best model that ignores context, fitted to this very text. None for an empty text.
std::optional<double> unigram_entropy_bits_per_byte(const std::vector<int64_t>& token_counts, int64_t num_bytes);

}  // namespace mmoe
