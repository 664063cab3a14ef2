#include "train/data/batches.h"

#include <gtest/gtest.h>

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
          EXPECT_EQ(target[j], EvaluationWindows::kNoTarget);
        }
      }
    }
    EXPECT_EQ(seen, file.read(1, count - 1));
    EXPECT_EQ(bytes, count - 1);
    EXPECT_EQ(windows.target_bytes(), count - 1);
    EXPECT_THROW(windows.window(windows.count(), input.data(), target.data()), std::logic_error);
  }
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
