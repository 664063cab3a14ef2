#include "train/checkpoint/tensor_pieces.h"

#include <algorithm>
#include <cstring>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

int64_t num_elements(const TensorBox& ranges) {
  int64_t count = 1;
  for (const IndexRange& range : ranges) count *= range.count;
  return count;
}

}  // namespace

bool TensorPiece::is_whole_box() const { return elements == FlatRange{0, num_elements(ranges)}; }

bool TensorPiece::is_whole() const {
  for (size_t dim = 0; dim < ranges.size(); ++dim) {
    if (ranges[dim] != IndexRange{0, full_shape[dim]}) return false;
  }
  return is_whole_box();
}

TensorPiece whole_tensor(const std::vector<int64_t>& shape) {
  TensorPiece piece{shape, {}, {}};
  for (const int64_t size : shape) piece.ranges.push_back({0, size});
  piece.elements = {0, num_elements(piece.ranges)};
  return piece;
}

std::vector<TensorPiece> pieces_of(const std::vector<int64_t>& shape, const TensorPart& part) {
  if (part.is_whole()) return {whole_tensor(shape)};
  std::vector<TensorPiece> pieces;
  for (const TensorBox& box : part.boxes) pieces.push_back({part.full_shape, box, {0, num_elements(box)}});
  return pieces;
}

std::vector<PieceRun> runs_of(const TensorPiece& piece) {
  MMOE_CHECK(piece.ranges.size() == piece.full_shape.size()) << piece.ranges.size();
  const int64_t in_box = num_elements(piece.ranges);
  MMOE_CHECK(piece.elements.begin >= 0 && piece.elements.end <= in_box) << piece.elements.end << " of " << in_box;
  if (piece.elements.size() <= 0) return {};
  // Behind the last dimension that is cut, rows of the box lie together in the tensor.
  size_t cut = piece.ranges.size();
  int64_t row = 1;
  while (cut > 0) {
    --cut;
    row *= piece.ranges[cut].count;
    if (piece.ranges[cut].count != piece.full_shape[cut]) break;
  }
  std::vector<PieceRun> runs;
  for (int64_t begin = piece.elements.begin; begin < piece.elements.end;) {
    const int64_t end = std::min(piece.elements.end, (begin / row + 1) * row);
    int64_t whole = 0, stride = 1, rest = begin;
    for (size_t dim = piece.ranges.size(); dim-- > 0;) {
      whole += (piece.ranges[dim].begin + rest % piece.ranges[dim].count) * stride;
      rest /= piece.ranges[dim].count;
      stride *= piece.full_shape[dim];
    }
    runs.push_back({whole, begin - piece.elements.begin, end - begin});
    begin = end;
  }
  return runs;
}

int64_t copy_common(const std::vector<PieceRun>& from_runs, const std::byte* from, const std::vector<PieceRun>& to_runs,
                    std::byte* to, int64_t element_bytes) {
  int64_t copied = 0;
  for (auto source = from_runs.begin(), target = to_runs.begin();
       source != from_runs.end() && target != to_runs.end();) {
    const int64_t source_end = source->whole + source->length, target_end = target->whole + target->length;
    const int64_t begin = std::max(source->whole, target->whole), end = std::min(source_end, target_end);
    if (begin < end) {
      std::memcpy(to + (target->piece + begin - target->whole) * element_bytes,
                  from + (source->piece + begin - source->whole) * element_bytes,
                  static_cast<size_t>((end - begin) * element_bytes));
      copied += end - begin;
    }
    source_end < target_end ? ++source : ++target;
  }
  return copied;
}

}  // namespace mmoe
