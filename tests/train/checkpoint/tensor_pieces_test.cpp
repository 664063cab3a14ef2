#include "train/checkpoint/tensor_pieces.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace mmoe {
namespace {

// Index in the whole tensor of every element of a piece, one by one.
std::vector<int64_t> indices(const TensorPiece& piece) {
  std::vector<int64_t> found;
  std::vector<int64_t> at(piece.ranges.size(), 0);
  int64_t count = 1;
  for (const IndexRange& range : piece.ranges) count *= range.count;
  for (int64_t i = 0; i < count; ++i) {
    int64_t index = 0;
    for (size_t dim = 0; dim < at.size(); ++dim)
      index = index * piece.full_shape[dim] + piece.ranges[dim].begin + at[dim];
    if (i >= piece.elements.begin && i < piece.elements.end) found.push_back(index);
    for (size_t dim = at.size(); dim-- > 0 && ++at[dim] == piece.ranges[dim].count;) at[dim] = 0;
  }
  return found;
}

TensorPiece random_piece(std::mt19937& random, const std::vector<int64_t>& shape) {
  const auto draw = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(0, most)(random); };
  TensorPiece piece{shape, {}, {}};
  int64_t count = 1;
  for (const int64_t size : shape) {
    const int64_t begin = draw(1) == 0 ? 0 : draw(size - 1), most = size - begin;
    piece.ranges.push_back({begin, draw(1) == 0 ? most : 1 + draw(most - 1)});
    count *= piece.ranges.back().count;
  }
  piece.elements.begin = draw(1) == 0 ? 0 : draw(count - 1);
  piece.elements.end = draw(1) == 0 ? count : piece.elements.begin + draw(count - piece.elements.begin);
  return piece;
}

TEST(TensorPieces, RunsAreTheElementsInOrder) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 500; ++trial) {
    const TensorPiece piece = random_piece(random, {3, 4, 2, 5});
    std::vector<int64_t> found;
    int64_t next = 0;
    for (const PieceRun& run : runs_of(piece)) {
      EXPECT_EQ(run.piece, next);
      EXPECT_GT(run.length, 0);
      next += run.length;
      for (int64_t i = 0; i < run.length; ++i) found.push_back(run.whole + i);
    }
    EXPECT_EQ(found, indices(piece));
  }
}

TEST(TensorPieces, RunsAreAsFewAsPossible) {
  EXPECT_EQ(runs_of(whole_tensor({4, 6})), (std::vector<PieceRun>{{0, 0, 24}}));
  const std::vector<TensorPiece> boxes = pieces_of({3, 6}, {{8, 6}, {{{1, 2}, {0, 6}}, {{5, 1}, {0, 6}}}});
  ASSERT_EQ(boxes.size(), 2);
  EXPECT_EQ(runs_of(boxes[0]), (std::vector<PieceRun>{{6, 0, 12}}));
  EXPECT_EQ(runs_of(boxes[1]), (std::vector<PieceRun>{{30, 0, 6}}));
  // Rows 1 and 2 of four: experts of one rank.
  EXPECT_EQ(runs_of({{4, 6}, {{1, 2}, {0, 6}}, {0, 12}}), (std::vector<PieceRun>{{6, 0, 12}}));
  // Columns 2 to 4 of each row.
  EXPECT_EQ(runs_of({{2, 6}, {{0, 2}, {2, 3}}, {0, 6}}), (std::vector<PieceRun>{{2, 0, 3}, {8, 3, 3}}));
}

TEST(TensorPieces, CommonElementsAreCopied) {
  std::mt19937 random(2);
  const std::vector<int64_t> shape = {4, 3, 5};
  for (int trial = 0; trial < 500; ++trial) {
    const TensorPiece from = random_piece(random, shape), to = random_piece(random, shape);
    const std::vector<int64_t> source = indices(from), wanted = indices(to);
    std::vector<int64_t> target(wanted.size(), -1);
    const int64_t copied = copy_common(runs_of(from), reinterpret_cast<const std::byte*>(source.data()), runs_of(to),
                                       reinterpret_cast<std::byte*>(target.data()), sizeof(int64_t));
    int64_t expected = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const bool common = std::find(source.begin(), source.end(), wanted[i]) != source.end();
      expected += common ? 1 : 0;
      EXPECT_EQ(target[i], common ? wanted[i] : -1);
    }
    EXPECT_EQ(copied, expected);
  }
}

}  // namespace
}  // namespace mmoe
