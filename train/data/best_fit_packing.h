#pragma once
// Documents put together into sequences of one length so that as few as possible are cut.

#include <cstdint>
#include <span>
#include <vector>

#include "train/data/token_file.h"

namespace mmoe {

// Tokens [first, first + length) of a token file, all of one document. `continues`: the document goes on behind them.
struct DocumentPiece {
  int64_t first = 0;
  int32_t length = 0;
  bool continues = false;
};

// Law: documents longer than a sequence are cut into whole sequences and a rest; rests and documents, longest first, go
// each into the sequence with the least room that still holds it (best-fit decreasing; Ding et al. 2024,
// arXiv:2404.10830, section 3). Equal lengths keep the order of the file. Documents without a second token are left
// out: there is nothing to predict in them. Needs 24 bytes a document.
class BestFitPacking {
 public:
  // ConfigError when no document holds two tokens, or seq_len is 1 or beyond 2^31.
  BestFitPacking(const TokenFile& tokens, int64_t seq_len);
  int64_t num_sequences() const { return static_cast<int64_t>(begins_.size()) - 1; }
  // The pieces of one sequence, at most seq_len tokens together; what is missing is padding.
  std::span<const DocumentPiece> sequence(int64_t index) const;
  // Of all positions, those that hold no token.
  double padding_fraction() const;

 private:
  int64_t seq_len_;
  std::vector<DocumentPiece> pieces_;  // sequence by sequence
  std::vector<int64_t> begins_;        // of each sequence in `pieces_`, and the end
};

}  // namespace mmoe
