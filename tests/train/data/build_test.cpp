#include "train/data/build.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <set>
#include <system_error>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"
#include "train/data/dataset.h"
#include "train/data/documents.h"

namespace mmoe {
namespace {

BuildOptions sentencepiece_options(const TemporaryFolder& folder, const std::string& text) {
  BuildOptions options;
  options.text_files = {folder.write("text.txt", text)};
  options.tokenizer = "sentencepiece";
  options.vocab_size = 340;
  options.prefix = folder.file("data");
  return options;
}

// Each split's documents, decoded, in the order of the file.
std::vector<std::string> documents(const Dataset& dataset, Split split) {
  std::vector<std::string> found;
  const TokenFile& tokens = dataset.tokens(split);
  for (int64_t i = 0; i < tokens.num_documents(); ++i) {
    const int64_t begin = tokens.document_begin(i);
    found.push_back(dataset.tokenizer().decode(tokens.read(begin, tokens.document_begin(i + 1) - begin)));
  }
  return found;
}

std::map<std::string, std::string> all_files(const TemporaryFolder& folder) {
  std::map<std::string, std::string> files;
  for (const std::string& name : folder.names()) files[name] = folder.read(name);
  return files;
}

// Names a file that differs rather than printing it.
void expect_same_files(const std::map<std::string, std::string>& files,
                       const std::map<std::string, std::string>& expected) {
  EXPECT_EQ(files.size(), expected.size());
  for (const auto& [name, bytes] : expected) EXPECT_TRUE(files.contains(name) && files.at(name) == bytes) << name;
}

TEST(BuildDataset, SplitsAreDisjointCompleteAndGiveBackTheText) {
  const TemporaryFolder folder;
  const std::string text = sample_text(500, 4) + "\xFF\xE2\x96\x81 tail \t\n";
  BuildOptions options = sentencepiece_options(folder, text);
  options.text_files.push_back(folder.write("second.txt", "another file\n\n\n\nthe end"));
  const DatasetInfo info = build_dataset(options);
  const Dataset dataset(options.prefix);
  std::multiset<std::string> rebuilt, expected;
  int64_t bytes = 0;
  for (const Split split : kSplits) {
    const std::vector<std::string> of_split = documents(dataset, split);
    EXPECT_EQ(static_cast<int64_t>(of_split.size()), info.split(split).documents);
    EXPECT_GE(of_split.size(), 1u);
    int64_t split_bytes = 0;
    for (const std::string& document : of_split) split_bytes += static_cast<int64_t>(document.size());
    EXPECT_EQ(split_bytes, info.split(split).bytes);
    bytes += split_bytes;
    rebuilt.insert(of_split.begin(), of_split.end());
  }
  for (const std::string_view document : split_documents(text, "\n\n")) expected.emplace(document);
  expected.insert("another file\n\n\n\n");
  expected.insert("the end");
  EXPECT_EQ(rebuilt, expected);
  EXPECT_EQ(bytes, info.text_bytes);
}

TEST(BuildDataset, IsTheSameInAnyNumberOfThreads) {
  const TemporaryFolder folder, other;
  const std::string text = sample_text(500, 4);
  BuildOptions options = sentencepiece_options(folder, text);
  options.num_threads = 1;
  build_dataset(options);
  options.prefix = other.file("data");
  options.num_threads = 4;
  build_dataset(options);
  std::map<std::string, std::string> first = all_files(folder);
  first.erase("text.txt");
  expect_same_files(all_files(other), first);
}

TEST(BuildDataset, LearnsFromTheTrainSplitAlone) {
  const TemporaryFolder folder;
  // A word that stands in one held-out document only: its pieces must not be learned however common it is there.
  std::string text;
  for (int i = 0; i < 40; ++i) text += "common words of document number " + std::to_string(i) + "\n\n";
  std::vector<Split> splits = assign_splits(41, kDefaultSplitFractions, 0);
  const size_t held_out = static_cast<size_t>(std::find(splits.begin(), splits.end(), Split::kTest) - splits.begin());
  std::string with_secret;
  size_t index = 0;
  const std::vector<std::string_view> parts = split_documents(text, "\n\n");
  for (size_t i = 0; i < 41; ++i) {
    if (i != held_out) {
      with_secret += parts[index++];
      continue;
    }
    for (int repeat = 0; repeat < 1000; ++repeat) with_secret += "zyzzyva ";
    with_secret += "\n\n";
  }
  BuildOptions options = sentencepiece_options(folder, with_secret);
  options.vocab_size = 310;
  build_dataset(options);
  const Dataset dataset(options.prefix);
  EXPECT_NE(documents(dataset, Split::kTest).at(0).find("zyzzyva"), std::string::npos);
  for (int32_t id = 0; id < dataset.tokenizer().vocab_size(); ++id) {
    EXPECT_EQ(dataset.tokenizer().token_text(id).find("zy"), std::string::npos) << id;
  }
}

TEST(BuildDataset, SampleBoundsWhatIsLearnedFrom) {
  const TemporaryFolder folder;
  BuildOptions options = sentencepiece_options(folder, sample_text(500, 4));
  std::vector<std::string> doings;
  options.progress = [&](const std::string& doing, double) { doings.push_back(doing); };
  options.sample_bytes = 5000;
  build_dataset(options);
  ASSERT_FALSE(doings.empty());
  const int64_t sampled = std::stoll(doings[0].substr(doings[0].find_first_of("0123456789")));
  EXPECT_LE(sampled, 5000);
  EXPECT_GT(sampled,
            4000);  // a sample of about 100 lines of 60 bytes: the expectation is 5000, five deviations are 2300 below
  const std::string first = folder.read("data.model");
  build_dataset(options);
  EXPECT_EQ(folder.read("data.model"), first);
}

TEST(BuildDataset, CountsHeldOutDocumentsThatTrainHoldsToo) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 30; ++i) text += "always the same\n\n";
  BuildOptions options;
  options.text_files = {folder.write("text.txt", text + "always the same")};
  options.prefix = folder.file("data");
  const DatasetInfo info = build_dataset(options);
  for (const Split split : {Split::kValid, Split::kSearch, Split::kTest}) {
    EXPECT_EQ(info.split(split).documents_in_train, info.split(split).documents);
  }
}

TEST(BuildDataset, EncodesWithAGivenModel) {
  const TemporaryFolder folder;
  BuildOptions options = sentencepiece_options(folder, sample_text(300, 4));
  build_dataset(options);
  BuildOptions second = options;
  second.text_files = {folder.write("other.txt", "unseen words entirely\n\nmore\n\nand\n\nmore")};
  second.prefix = folder.file("second");
  second.tokenizer_model = folder.file("data.model");
  second.vocab_size = 0;
  const DatasetInfo info = build_dataset(second);
  EXPECT_EQ(info.vocab_size, 340);
  EXPECT_EQ(folder.read("second.model"), folder.read("data.model"));
  second.vocab_size = 341;
  EXPECT_THROW(build_dataset(second), ConfigError);
}

TEST(BuildDataset, RefusesWhatCannotBeBuilt) {
  const TemporaryFolder folder;
  const std::string text = sample_text(100, 4);
  const BuildOptions good = sentencepiece_options(folder, text);
  const auto expect_refused = [&](auto change, const std::string& names) {
    BuildOptions options = good;
    change(options);
    const std::string message = message_of<ConfigError>([&] { build_dataset(options); });
    EXPECT_NE(message.find(names), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  };
  expect_refused([](BuildOptions& o) { o.text_files = {}; }, "--text");
  expect_refused([&](BuildOptions& o) { o.text_files = {folder.file("no.txt")}; }, folder.file("no.txt"));
  expect_refused([&](BuildOptions& o) { o.text_files.push_back(folder.write("empty.txt", "")); },
                 folder.file("empty.txt"));
  expect_refused([](BuildOptions& o) { o.tokenizer = "words"; }, "--tokenizer words");
  expect_refused([](BuildOptions& o) { o.vocab_size = 0; }, "--vocab-size");
  expect_refused([](BuildOptions& o) { o.vocab_size = 100000; }, "--vocab-size 100000");
  expect_refused([](BuildOptions& o) { o.tokenizer = "bytes"; }, "--vocab-size 340");
  expect_refused([](BuildOptions& o) { o.separator = "\x01"; }, "--separator");
  expect_refused([](BuildOptions& o) { o.sample_bytes = 0; }, "--sample-bytes");
  expect_refused([&](BuildOptions& o) { o.prefix = folder.file("no/data"); }, folder.file("no"));
  expect_refused([](BuildOptions& o) { o.prefix = ""; }, "--out");
  expect_refused([](BuildOptions& o) { o.split_fractions = {0, 0, 0, 1}; }, "train split");
  expect_refused([&](BuildOptions& o) { o.tokenizer_model = folder.file("text.txt"); }, folder.file("text.txt"));
  EXPECT_EQ(folder.names(), (std::set<std::string>{"empty.txt", "text.txt"}));
}

TEST(BuildDataset, AFullDiskLeavesTheEarlierFilesWhole) {
  const TemporaryFolder folder;
  BuildOptions options;
  options.text_files = {folder.write("text.txt", sample_text(100, 4))};
  options.prefix = folder.file("data");
  build_dataset(options);
  options.text_files = {folder.write("larger.txt", sample_text(20000, 4))};
  const std::map<std::string, std::string> before = all_files(folder);
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {1 << 20, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW(build_dataset(options), std::system_error);
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  expect_same_files(all_files(folder), before);
}

}  // namespace
}  // namespace mmoe
