#include "train/data/best_fit_packing.h"

#include <gtest/gtest.h>

#include <numeric>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"
#include "train/data/counter_random.h"

namespace mmoe {
namespace {

class BestFitPackingTest : public testing::Test {
 protected:
  TokenFile documents(const std::vector<int64_t>& lengths) {
    TokenFileWriter writer(folder_.file("t"), 256);
    for (const int64_t length : lengths) writer.add_document(std::vector<int32_t>(static_cast<size_t>(length), 7));
    writer.sync();
    writer.publish();
    return TokenFile(folder_.file("t"), 256);
  }
  TemporaryFolder folder_;
};

// By hand: 10 is cut into 8 and 2; longest first 8 | 6 | 5 | 3 to the 5 (room 3) | 2 to the 6 (room 2) | 2 alone.
TEST_F(BestFitPackingTest, PutsEachPieceWhereTheLeastRoomIsLeft) {
  const BestFitPacking packing(documents({6, 10, 3, 5, 2, 1, 0}), 8);
  ASSERT_EQ(packing.num_sequences(), 4);
  std::vector<std::vector<int64_t>> firsts;
  for (int64_t i = 0; i < 4; ++i) {
    std::vector<int64_t>& of_sequence = firsts.emplace_back();
    for (const DocumentPiece& piece : packing.sequence(i)) of_sequence.push_back(piece.first);
  }
  EXPECT_EQ(firsts, (std::vector<std::vector<int64_t>>{{6}, {0, 14}, {19, 16}, {24}}));
  EXPECT_TRUE(packing.sequence(0)[0].continues);
  EXPECT_FALSE(packing.sequence(1)[1].continues);
  EXPECT_DOUBLE_EQ(packing.padding_fraction(), 6.0 / 32);
}

TEST_F(BestFitPackingTest, HoldsEveryDocumentOnceAndCutsOnlyLongOnes) {
  constexpr int64_t kSeqLen = 64;
  std::vector<int64_t> lengths;
  for (uint64_t i = 0; i < 500; ++i) lengths.push_back(static_cast<int64_t>(counter_random(3, i) % 200));
  const TokenFile file = documents(lengths);
  const BestFitPacking packing(file, kSeqLen);
  std::vector<int> seen(static_cast<size_t>(file.num_tokens()));
  for (int64_t i = 0; i < packing.num_sequences(); ++i) {
    int64_t size = 0;
    for (const DocumentPiece& piece : packing.sequence(i)) {
      size += piece.length;
      EXPECT_EQ(piece.continues, piece.length == kSeqLen && file.document_begins(piece.first + kSeqLen, 1).empty() &&
                                     piece.first + kSeqLen < file.num_tokens());
      for (int64_t t = piece.first; t < piece.first + piece.length; ++t) ++seen[static_cast<size_t>(t)];
    }
    EXPECT_LE(size, kSeqLen);
  }
  // Left out: a document of one token, and the one token behind a document's whole sequences, which is a target
  // already.
  for (int64_t d = 0; d < file.num_documents(); ++d) {
    const int64_t begin = file.document_begin(d), length = file.document_begin(d + 1) - begin;
    for (int64_t t = 0; t < length; ++t) {
      EXPECT_EQ(seen[static_cast<size_t>(begin + t)], length % kSeqLen == 1 && t == length - 1 ? 0 : 1) << d;
    }
  }
  // One document a sequence would leave half of each rest's sequence empty, about a quarter of all.
  EXPECT_LT(packing.padding_fraction(), 0.05);
}

TEST_F(BestFitPackingTest, RefusesWhatHoldsNoTarget) {
  EXPECT_THROW(BestFitPacking(documents({1, 0, 1}), 8), ConfigError);
  EXPECT_THROW(BestFitPacking(documents({}), 8), ConfigError);
  EXPECT_THROW(BestFitPacking(documents({9}), 1), ConfigError);
}

}  // namespace
}  // namespace mmoe
