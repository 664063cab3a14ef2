#include "train/data/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

// Token i is i % 251, over documents of 10 tokens.
class BatchesTest : public testing::Test {
 protected:
  TokenFile tokens(int64_t count) {
    TokenFileWriter writer(folder_.file("t"), 256);
    std::vector<int32_t> document;
    for (int64_t i = 0; i < count; ++i) {
      document.push_back(static_cast<int32_t>(i % 251));
      if (document.size() < 10 && i + 1 < count) continue;
      writer.add_document(document);
      document.clear();
    }
    writer.sync();
    writer.publish();
    return TokenFile(folder_.file("t"), 256);
  }
  TemporaryFolder folder_;
};

TEST_F(BatchesTest, AnEpochVisitsEachWholeWindowOnce) {
  const TokenFile file = tokens(105);
  const Batches batches(file, 8, 1);
  ASSERT_EQ(batches.samples_per_epoch(), 13);  // 13 windows of 8 read 13 * 8 + 1 = 105 tokens
  std::multiset<int32_t> first_tokens;
  std::vector<int32_t> input(8), target(8);
  for (int64_t i = 0; i < 13; ++i) {
    batches.sample(i, input.data(), target.data());
    first_tokens.insert(input[0]);
    for (size_t j = 0; j < 8; ++j) {
      EXPECT_EQ(input[j], input[0] + static_cast<int32_t>(j));
      EXPECT_EQ(target[j], input[j] + 1);
    }
  }
  std::multiset<int32_t> expected;
  for (int32_t i = 0; i < 13; ++i) expected.insert(8 * i);
  EXPECT_EQ(first_tokens, expected);
  EXPECT_EQ(Batches(tokens(104), 8, 1).samples_per_epoch(), 12);
}

// Whatever the number of ranks, the global batch of a step holds the same rows in the same places, across an epoch's
// end.
TEST_F(BatchesTest, EveryNumberOfRanksReadsTheSameGlobalBatch) {
  const TokenFile file = tokens(1000);
  constexpr int64_t kSeqLen = 7, kGlobalBatch = 24, kSteps = 12;
  std::vector<std::vector<int32_t>> by_one_rank;
  for (const int64_t ranks : {1, 2, 3, 4, 8}) {
    std::map<int64_t, std::vector<int32_t>> rows;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const Batches batches(file, kSeqLen, 77);
      const int64_t per_rank = kGlobalBatch / ranks;
      for (int64_t step = 0; step < kSteps; ++step) {
        for (int64_t row = rank * per_rank; row < (rank + 1) * per_rank; ++row) {
          std::vector<int32_t> pair(2 * kSeqLen);
          batches.sample(step * kGlobalBatch + row, pair.data(), pair.data() + kSeqLen);
          rows[step * kGlobalBatch + row] = pair;
        }
      }
    }
    std::vector<std::vector<int32_t>> in_order;
    for (const auto& [index, pair] : rows) in_order.push_back(pair);
    ASSERT_EQ(in_order.size(), static_cast<size_t>(kGlobalBatch * kSteps));
    if (by_one_rank.empty()) by_one_rank = in_order;
    EXPECT_EQ(in_order, by_one_rank) << ranks;
  }
}

TEST_F(BatchesTest, TooShortAFileIsTheUsersMistake) {
  const TokenFile file = tokens(8);
  EXPECT_NO_THROW(Batches(file, 7, 1));
  const std::string message = message_of<ConfigError>([&] { Batches(file, 8, 1); });
  EXPECT_EQ(message.find(file.path()), 0u) << message;
  EXPECT_NE(message.find("training.seq_len = 8"), std::string::npos) << message;
}

TEST_F(BatchesTest, EvaluationPredictsEachTokenButTheFirstOnce) {
  const auto tokenizer = make_byte_tokenizer();
  for (const int64_t count : {2, 8, 9, 10, 100, 250}) {
    const TokenFile file = tokens(count);
    const EvaluationWindows windows(file, *tokenizer, 8);
    EXPECT_EQ(windows.count(), (count - 1 + 7) / 8);
    std::vector<int32_t> input(8), target(8), seen;
    int64_t bytes = 0;
    for (int64_t i = 0; i < windows.count(); ++i) {
      const int64_t size = windows.window(i, input.data(), target.data());
      EXPECT_EQ(windows.target_bytes(i), size);
      bytes += windows.target_bytes(i);
      for (size_t j = 0; j < 8; ++j) {
        if (static_cast<int64_t>(j) < size) {
          EXPECT_EQ(target[j], input[j] + 1);
          seen.push_back(target[j]);
        } else {
          EXPECT_EQ(input[j], 0);
          EXPECT_EQ(target[j], kNoTarget);
        }
      }
    }
    EXPECT_EQ(seen, file.read(1, count - 1));
    EXPECT_EQ(bytes, count - 1);
    EXPECT_EQ(windows.target_bytes(), count - 1);
    EXPECT_THROW(windows.window(windows.count(), input.data(), target.data()), std::logic_error);
  }
}

// Documents begin at multiples of 10: their first tokens are no targets, and everything else is as in the stream.
TEST_F(BatchesTest, DocumentsKeptApartHaveNoTargetBehindTheirEnd) {
  const TokenFile file = tokens(105);
  const Batches stream(file, 8, 1), apart({{&file}}, {8, Packing::kConcatenate, Documents::kApart}, 1);
  ASSERT_EQ(apart.samples_per_epoch(), 13);
  std::vector<int32_t> input(8), target(8), input_apart(8), target_apart(8);
  for (int64_t i = 0; i < 20; ++i) {
    stream.sample(i, input.data(), target.data());
    apart.sample(i, input_apart.data(), target_apart.data());
    EXPECT_EQ(input_apart, input);
    for (size_t j = 0; j < 8; ++j) EXPECT_EQ(target_apart[j], target[j] % 10 == 0 ? kNoTarget : target[j]);
  }
}

TEST_F(BatchesTest, BestFitTrainsOnEveryTargetOfEveryDocumentOnce) {
  const TokenFile file = tokens(105);  // ten documents of 10 tokens, one of 5
  for (const Documents documents : {Documents::kApart, Documents::kRunOn}) {
    const Batches batches({{&file}}, {8, Packing::kBestFit, documents}, 3);
    std::vector<int32_t> input(8), target(8), seen;
    int64_t across = 0;
    for (int64_t i = 0; i < batches.samples_per_epoch(); ++i) {
      batches.sample(i, input.data(), target.data());
      for (size_t j = 0; j < 8; ++j) {
        if (target[j] == kNoTarget) continue;
        if (target[j] == input[j] + 1 && target[j] % 10 != 0) {
          seen.push_back(target[j]);
        } else {
          EXPECT_EQ(target[j], input[j + 1]);  // the next document of the sequence
          ++across;
        }
      }
    }
    std::sort(seen.begin(), seen.end());
    std::vector<int32_t> expected;
    for (int32_t i = 0; i < 105; ++i) {
      if (i % 10 != 0) expected.push_back(i);
    }
    EXPECT_EQ(seen, expected);
    // Ten whole ones, and of the rests 5 + 2, 2 + 2 + 2 + 2, 2 + 2 + 2 + 2 and 2.
    EXPECT_EQ(batches.samples_per_epoch(), 14);
    EXPECT_DOUBLE_EQ(batches.padding_fraction(), 7.0 / 112);
    EXPECT_EQ(across > 0, documents == Documents::kRunOn);
  }
}

// A blend is its sources' own samples in their own order, and any place of it is found at once.
TEST_F(BatchesTest, ABlendKeepsTheOrderOfItsSources) {
  const TokenFile first = tokens(105), second = tokens(1000);
  const Batches alone(first, 8, 5), blend({{&first, 1}, {&second, 3}}, {8}, 5);
  EXPECT_EQ(blend.samples_per_epoch(), 13 + 124);
  std::vector<int32_t> input(8), target(8), expected(8), again(8);
  const Blend places({1, 3});
  std::vector<std::vector<int32_t>> seen;
  for (int64_t i = 0; i < 200; ++i) {
    blend.sample(i, input.data(), target.data());
    seen.push_back(input);
    if (const Blend::Place place = places.at(i); place.source == 0) {
      alone.sample(place.index, expected.data(), target.data());
      EXPECT_EQ(input, expected) << i;
    }
  }
  const Batches resumed({{&first, 1}, {&second, 3}}, {8}, 5);
  for (int64_t i = 150; i < 200; ++i) {
    resumed.sample(i, again.data(), target.data());
    EXPECT_EQ(again, seen[static_cast<size_t>(i)]);
  }
}

TEST_F(BatchesTest, WithoutWeightsASourceCountsByItsSamples) {
  const TokenFile first = tokens(105), second = tokens(313);
  const Batches blend({{&first}, {&second}}, {8}, 5);
  ASSERT_EQ(blend.samples_per_epoch(), 13 + 39);
  const Batches weighed({{&first, 13}, {&second, 39}}, {8}, 5);
  std::vector<int32_t> input(8), target(8), same(8);
  for (int64_t i = 0; i < 104; ++i) {
    blend.sample(i, input.data(), target.data());
    weighed.sample(i, same.data(), target.data());
    EXPECT_EQ(input, same) << i;
  }
}

TEST_F(BatchesTest, DocumentLengthsFollowTheTargets) {
  constexpr int32_t kNone = kNoTarget;
  // A document of 3, one of 1 that counts to the one before it, one cut by the sequence's end; one of 2 and padding.
  const std::vector<int32_t> targets = {1, 2, kNone, kNone, 3, 4, 7, kNone, kNone, kNone, kNone, kNone};
  EXPECT_EQ(document_lengths(targets.data(), 12, 6), (std::vector<int64_t>{4, 2, 6}));
  EXPECT_EQ(document_lengths(targets.data(), 6, 3), (std::vector<int64_t>{3, 1, 2}));
}

TEST_F(BatchesTest, EvaluationOfDocumentsKeptApartLeavesTheirFirstTokensOut) {
  const auto tokenizer = make_byte_tokenizer();
  const TokenFile file = tokens(105);
  const EvaluationWindows windows(file, *tokenizer, 8, Documents::kApart);
  EXPECT_EQ(windows.count(), 13);
  EXPECT_EQ(windows.num_targets(), 104 - 10);
  EXPECT_EQ(windows.target_bytes(), 94);
  std::vector<int32_t> input(8), target(8);
  int64_t total = 0;
  for (int64_t i = 0; i < windows.count(); ++i) {
    const int64_t size = windows.window(i, input.data(), target.data());
    EXPECT_EQ(windows.target_bytes(i), size);
    EXPECT_EQ(std::count_if(target.begin(), target.end(), [](int32_t t) { return t != kNoTarget; }), size);
    for (size_t j = 0; j < 8; ++j)
      EXPECT_EQ(target[j], (8 * i + static_cast<int64_t>(j) + 1) % 10 == 0 ? kNoTarget : input[j] + 1);
    total += size;
  }
  EXPECT_EQ(total, 94);
}

TEST_F(BatchesTest, EvaluationNeedsTwoTokens) {
  const auto tokenizer = make_byte_tokenizer();
  for (const int64_t count : {0, 1}) {
    const TokenFile file = tokens(count);
    EXPECT_THROW(EvaluationWindows(file, *tokenizer, 8), ConfigError);
  }
}

}  // namespace
}  // namespace mmoe
