#include "train/data/best_fit_packing.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kLeastPiece = 2;  // one input and its target

std::vector<DocumentPiece> cut_documents(const TokenFile& tokens, int64_t seq_len) {
  std::vector<DocumentPiece> pieces;
  for (int64_t document = 0; document < tokens.num_documents(); ++document) {
    int64_t first = tokens.document_begin(document);
    const int64_t end = tokens.document_begin(document + 1);
    for (; end - first >= kLeastPiece; first += seq_len) {
      const int64_t length = std::min(seq_len, end - first);
      pieces.push_back({first, static_cast<int32_t>(length), first + length < end});
    }
  }
  return pieces;
}

// The sequence of each piece, pieces sorted by falling length; returns their number.
int64_t assign_best_fit(const std::vector<DocumentPiece>& pieces, int64_t seq_len, std::vector<int64_t>& sequences) {
  int64_t num_sequences = 0;
  std::vector<std::vector<int64_t>> open(static_cast<size_t>(seq_len));  // sequences by room
  std::set<int64_t> rooms;                                               // those with an open sequence
  for (const DocumentPiece& piece : pieces) {
    const auto best = rooms.lower_bound(piece.length);
    int64_t room = seq_len, sequence = num_sequences;
    if (best != rooms.end()) {
      room = *best;
      auto& candidates = open[static_cast<size_t>(room)];
      sequence = candidates.back();
      candidates.pop_back();
      if (candidates.empty()) rooms.erase(best);
    } else {
      ++num_sequences;
    }
    sequences.push_back(sequence);
    room -= piece.length;
    if (room < kLeastPiece) continue;
    open[static_cast<size_t>(room)].push_back(sequence);
    rooms.insert(room);
  }
  return num_sequences;
}

}  // namespace

BestFitPacking::BestFitPacking(const TokenFile& tokens, int64_t seq_len) : seq_len_(seq_len) {
  if (seq_len < kLeastPiece || seq_len > std::numeric_limits<int32_t>::max()) {
    throw ConfigError("training.packing = best_fit: needs training.seq_len between 2 and 2^31, not " +
                      std::to_string(seq_len));
  }
  std::vector<DocumentPiece> pieces = cut_documents(tokens, seq_len);
  if (pieces.empty()) {
    throw ConfigError(
        tokens.path() +
        ": no document holds two tokens, so none can be trained on; build the data with longer documents");
  }
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const DocumentPiece& a, const DocumentPiece& b) { return a.length > b.length; });
  std::vector<int64_t> sequences;
  const int64_t count = assign_best_fit(pieces, seq_len, sequences);
  begins_.resize(static_cast<size_t>(count) + 1);
  for (const int64_t sequence : sequences) ++begins_[static_cast<size_t>(sequence) + 1];
  for (size_t i = 1; i < begins_.size(); ++i) begins_[i] += begins_[i - 1];
  std::vector<int64_t> next(begins_.begin(), begins_.end() - 1);
  pieces_.resize(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces_[static_cast<size_t>(next[static_cast<size_t>(sequences[i])]++)] = pieces[i];
  }
}

std::span<const DocumentPiece> BestFitPacking::sequence(int64_t index) const {
  MMOE_CHECK(index >= 0 && index < num_sequences()) << index << " of " << num_sequences();
  const auto begin = static_cast<size_t>(begins_[static_cast<size_t>(index)]);
  return {&pieces_[begin], static_cast<size_t>(begins_[static_cast<size_t>(index) + 1]) - begin};
}

double BestFitPacking::padding_fraction() const {
  double tokens = 0;
  for (const DocumentPiece& piece : pieces_) tokens += piece.length;
  return 1 - tokens / (static_cast<double>(seq_len_) * static_cast<double>(num_sequences()));
}

}  // namespace mmoe
