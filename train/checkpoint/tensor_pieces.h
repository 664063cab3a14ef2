#pragma once
// Pieces of tensors: what one rank holds of a tensor, and how two cuts of the same tensor overlap.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "train/model/parameters.h"

namespace mmoe {

// Of a tensor of shape `full_shape` the box of these index ranges (one a dimension), and of the box's elements in
// row-major order those in `elements`.
struct TensorPiece {
  std::vector<int64_t> full_shape;
  TensorBox ranges;
  FlatRange elements;

  bool is_whole_box() const;
  bool is_whole() const;  // the whole tensor
};

TensorPiece whole_tensor(const std::vector<int64_t>& shape);

// The boxes of a part of a tensor, each whole; `shape` is that of the part, whose elements are theirs in this order.
std::vector<TensorPiece> pieces_of(const std::vector<int64_t>& shape, const TensorPart& part);

// Elements that lie together both in the tensor and in a piece of it: `length` of them from index `whole` of the
// tensor, flattened, and from index `piece` of the piece.
struct PieceRun {
  int64_t whole = 0, piece = 0, length = 0;
  bool operator==(const PieceRun&) const = default;
};

// All elements of a piece in rising order, in as few runs as possible.
std::vector<PieceRun> runs_of(const TensorPiece& piece);

// Copies what both pieces of one tensor hold; runs as from runs_of. Returns the number of elements copied.
int64_t copy_common(const std::vector<PieceRun>& from_runs, const std::byte* from, const std::vector<PieceRun>& to_runs,
                    std::byte* to, int64_t element_bytes);

}  // namespace mmoe
