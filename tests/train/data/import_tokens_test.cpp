#include "train/data/import_tokens.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"
#include "train/data/build.h"
#include "train/data/dataset.h"

namespace mmoe {
namespace {

std::vector<std::vector<int32_t>> documents_of(const Dataset& data) {
  std::vector<std::vector<int32_t>> documents;
  for (const Split split : kSplits) {
    const TokenFile& file = data.tokens(split);
    for (int64_t i = 0; i < file.num_documents(); ++i) {
      documents.push_back(file.read(file.document_begin(i), file.document_begin(i + 1) - file.document_begin(i)));
    }
  }
  std::sort(documents.begin(), documents.end());
  return documents;
}

ImportTokensOptions two_files(const TemporaryFolder& folder) {
  std::vector<std::vector<int32_t>> documents;
  ImportTokensOptions options;
  for (const char* name : {"a", "b"}) {
    TokenFileWriter writer(folder.file(name), 5000);
    for (int32_t i = 0; i < 20; ++i) writer.add_document(std::vector<int32_t>{i, 4000, name[0]});
    writer.sync();
    writer.publish();
    options.token_files.push_back(folder.file(name));
  }
  options.vocab_size = 5000;
  options.prefix = folder.file("out");
  options.split_fractions = {0.5, 0.25, 0.125, 0.125};
  return options;
}

TEST(ImportTokens, DealsEveryDocumentToOneSplit) {
  const TemporaryFolder folder;
  const DatasetInfo info = import_tokens(two_files(folder));
  const Dataset data(folder.file("out"));
  EXPECT_EQ(data.tokenizer().kind(), "none");
  EXPECT_EQ(info.split(Split::kTrain).documents, 20);
  EXPECT_EQ(info.split(Split::kValid).documents, 10);
  std::vector<std::vector<int32_t>> expected;
  for (const int32_t name : {'a', 'b'}) {
    for (int32_t i = 0; i < 20; ++i) expected.push_back({i, 4000, name});
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(documents_of(data), expected);
  EXPECT_FALSE(info.unigram_entropy_bits_per_byte.has_value());
  EXPECT_THROW(data.tokenizer().encode("text"), ConfigError);
}

// With its model known, an import gives the text back that a build made the tokens from.
TEST(ImportTokens, KnowsItsTextWithTheTokenizersModel) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += "the king sees " + std::to_string(i * 37 % 101) + " dogs and hears a river.\n\n";
  BuildOptions build;
  build.text_files = {folder.write("text.txt", text)};
  build.tokenizer = "sentencepiece";
  build.vocab_size = 320;
  build.prefix = folder.file("built");
  build.split_fractions = {1, 0, 0, 0};
  build_dataset(build);
  ImportTokensOptions options;
  options.token_files = {folder.file("built.train.bin")};
  options.tokenizer_model = folder.file("built.model");
  options.prefix = folder.file("imported");
  options.split_fractions = {1, 0, 0, 0};
  const DatasetInfo info = import_tokens(options);
  EXPECT_EQ(info.text_bytes, static_cast<int64_t>(text.size()));
  const Dataset data(folder.file("imported"));
  const TokenFile& train = data.tokens(Split::kTrain);
  EXPECT_EQ(data.tokenizer().decode(train.read(0, train.num_tokens())), text);
}

TEST(ImportTokens, CountsHeldOutDocumentsThatStandInTrain) {
  const TemporaryFolder folder;
  ImportTokensOptions options = two_files(folder);
  options.token_files = {folder.file("a"), folder.file("a")};  // each document twice
  const DatasetInfo info = import_tokens(options);
  int64_t repeated = 0;
  for (const Split split : {Split::kValid, Split::kSearch, Split::kTest})
    repeated += info.split(split).documents_in_train;
  EXPECT_GT(repeated, 0);
}

TEST(ImportTokens, RefusesWhatItNeedsToKnow) {
  const TemporaryFolder folder;
  ImportTokensOptions options = two_files(folder);
  options.vocab_size = 0;
  EXPECT_THROW(import_tokens(options), ConfigError);
  options.vocab_size = 4000;  // a token is outside
  EXPECT_THROW(import_tokens(options), ConfigError);
  EXPECT_FALSE(folder.names().contains("out.json"));
  options.token_files = {};
  EXPECT_THROW(import_tokens(options), ConfigError);
}

}  // namespace
}  // namespace mmoe
