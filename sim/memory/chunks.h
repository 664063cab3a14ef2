#pragma once
// Sizes of the trainer's working buffers, known to the memory model too.

#include <algorithm>
#include <cstdint>

#include "sim/memory/cpu_products.h"

namespace mmoe {

// Rows that the experts' CPU path works on at a time: two buffers of this height stay in the cache.
inline constexpr int64_t kExpertChunkRows = 256;

// On the CPU an expert's rows are padded to a multiple of this. bf16 by oneDNN: chunks then have 16 different heights,
// for each of which it builds a primitive.
inline int64_t cpu_segment_rows(bool bf16) { return bf16 && cpu_bf16_products() == CpuProducts::kLibrary ? 16 : 1; }

// Rows of logits that exist at a time: about four million logits, in multiples of 64 rows.
inline int64_t loss_chunk_rows(int64_t num_tokens, int64_t vocab_size) {
  const int64_t rows = std::max<int64_t>(64, (int64_t{1} << 22) / vocab_size / 64 * 64);
  return std::min(num_tokens, rows);
}

}  // namespace mmoe
