#pragma once
// Cutting text so that SentencePiece sees only what it represents without loss.

#include <string_view>

namespace mmoe {

// The first chunk of a non-empty `text`: a line with the line feeds that follow it, or `kMaxChunkSize` bytes of a
// longer one (cut before a space if there is one, else between characters). Pieces are learned and applied within
// chunks.
std::string_view first_chunk(std::string_view text);
inline constexpr size_t kMaxChunkSize = 4096;

// Length of the longest prefix that SentencePiece reproduces exactly: well-formed UTF-8 (Unicode 15, table 3-7) without
// NUL, and without U+2581, by which SentencePiece writes a space.
size_t plain_prefix(std::string_view text);

}  // namespace mmoe
