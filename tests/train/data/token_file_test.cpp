#include "train/data/token_file.h"

#include <gtest/gtest.h>

#include <functional>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

// What Megatron-LM's IndexedDatasetBuilder writes for the documents [1, 2, 258] and [3] as uint16.
const std::string kBin("\x01\x00\x02\x00\x02\x01\x03\x00", 8);
const std::string kIdx(
    "MMIDIDX\x00\x00"                   // magic
    "\x01\x00\x00\x00\x00\x00\x00\x00"  // version
    "\x08"                              // uint16
    "\x02\x00\x00\x00\x00\x00\x00\x00"  // sequences
    "\x03\x00\x00\x00\x00\x00\x00\x00"  // documents + 1
    "\x03\x00\x00\x00\x01\x00\x00\x00"  // lengths in tokens
    "\x00\x00\x00\x00\x00\x00\x00\x00"  // begins in bytes
    "\x06\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00"  // first sequence of each document
    "\x01\x00\x00\x00\x00\x00\x00\x00"
    "\x02\x00\x00\x00\x00\x00\x00\x00",
    9 + 8 + 1 + 16 + 8 + 16 + 24);

void write_documents(const std::string& path, const std::vector<std::vector<int32_t>>& documents, int64_t vocab_size) {
  TokenFileWriter writer(path, vocab_size);
  for (const auto& document : documents) writer.add_document(document);
  writer.sync();
  writer.publish();
}

TEST(TokenFile, WritesMegatronsBytes) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {{1, 2, 258}, {3}}, 300);
  EXPECT_EQ(folder.read("a.bin"), kBin);
  EXPECT_EQ(folder.read("a.idx"), kIdx);
}

TEST(TokenFile, ReadsMegatronsBytes) {
  const TemporaryFolder folder;
  folder.write("a.bin", kBin);
  folder.write("a.idx", kIdx);
  const TokenFile file(folder.file("a"));
  EXPECT_EQ(file.num_tokens(), 4);
  EXPECT_EQ(file.num_documents(), 2);
  EXPECT_EQ(file.type(), TokenType::kUint16);
  EXPECT_EQ(file.read(0, 4), (std::vector<int32_t>{1, 2, 258, 3}));
  EXPECT_EQ(file.read(1, 2), (std::vector<int32_t>{2, 258}));
  EXPECT_EQ(file.read(4, 0), std::vector<int32_t>{});
  EXPECT_EQ(file.document_begin(0), 0);
  EXPECT_EQ(file.document_begin(1), 3);
  EXPECT_EQ(file.document_begin(2), 4);
  EXPECT_THROW(file.read(3, 2), std::logic_error);
  EXPECT_THROW(file.read(-1, 1), std::logic_error);
}

TEST(TokenFile, ReadsDocumentsOfSeveralSequences) {
  const TemporaryFolder folder;
  std::string idx = kIdx;
  idx[26] = 2;                    // one document
  idx.erase(idx.size() - 16, 8);  // boundaries 0 and 2
  folder.write("a.bin", kBin);
  folder.write("a.idx", idx);
  const TokenFile file(folder.file("a"));
  EXPECT_EQ(file.num_documents(), 1);
  EXPECT_EQ(file.document_begin(1), 4);
}

TEST(TokenFile, TakesInt32WhereUint16DoesNotReach) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {{70000, 5}, {}, {2147483646}}, 2147483647);
  const TokenFile file(folder.file("a"));
  EXPECT_EQ(file.type(), TokenType::kInt32);
  EXPECT_EQ(folder.read("a.bin").size(), 12u);
  EXPECT_EQ(file.read(0, 3), (std::vector<int32_t>{70000, 5, 2147483646}));
  EXPECT_EQ(token_type(65499), TokenType::kUint16);
  EXPECT_EQ(token_type(65500), TokenType::kInt32);
}

TEST(TokenFile, MayBeEmpty) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {}, 300);
  const TokenFile file(folder.file("a"));
  EXPECT_EQ(file.num_tokens(), 0);
  EXPECT_EQ(file.num_documents(), 0);
  EXPECT_EQ(file.document_begin(0), 0);
}

TEST(TokenFile, RefusesTokensOutsideTheVocabulary) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {{1, 2, 258}, {3}}, 300);
  const TokenFile file(folder.file("a"), 258);
  EXPECT_EQ(file.read(0, 2), (std::vector<int32_t>{1, 2}));
  const std::string message = message_of<ConfigError>([&] { file.read(0, 3); });
  EXPECT_NE(message.find("token 258"), std::string::npos) << message;
  folder.write("b.bin", std::string("\xFF\xFF\xFF\xFF", 4));
  std::string idx = kIdx.substr(0, 34);
  idx[17] = 4, idx[18] = 1, idx[26] = 2;
  idx +=
      std::string("\x01\0\0\0", 4) + std::string(8, '\0') + std::string(8, '\0') + std::string("\x01\0\0\0\0\0\0\0", 8);
  folder.write("b.idx", idx);
  EXPECT_THROW(TokenFile(folder.file("b")).read(0, 1), ConfigError);
}

struct Damage {
  const char* name;
  std::function<void(std::string& bin, std::string& idx)> apply;
};

class DamagedTokenFile : public testing::TestWithParam<Damage> {};

TEST_P(DamagedTokenFile, IsRefusedByName) {
  const TemporaryFolder folder;
  std::string bin = kBin, idx = kIdx;
  GetParam().apply(bin, idx);
  folder.write("a.bin", bin);
  folder.write("a.idx", idx);
  const std::string message = message_of<ConfigError>([&] { TokenFile file(folder.file("a")); });
  EXPECT_EQ(message.find(folder.file("a.idx")), 0u) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

constexpr size_t kSequences = 18, kBoundaries = 26, kLengths = 34, kBegins = 42, kDocuments = 58;
const Damage kDamages[] = {
    {"empty", [](auto&, auto& idx) { idx = ""; }},
    {"header_cut", [](auto&, auto& idx) { idx.resize(20); }},
    {"index_cut", [](auto&, auto& idx) { idx.resize(idx.size() - 1); }},
    {"index_longer", [](auto&, auto& idx) { idx += '\0'; }},
    {"magic", [](auto&, auto& idx) { idx[0] = 'X'; }},
    {"version", [](auto&, auto& idx) { idx[9] = 2; }},
    {"type", [](auto&, auto& idx) { idx[17] = 1; }},
    {"many_sequences", [](auto&, auto& idx) { idx.replace(kSequences, 8, 8, '\xFF'); }},
    {"sequences_that_overflow", [](auto&, auto& idx) { idx[kSequences + 7] = '\x40'; }},
    {"many_boundaries", [](auto&, auto& idx) { idx.replace(kBoundaries, 8, 8, '\xFF'); }},
    {"no_boundary", [](auto&, auto& idx) { idx.resize(kDocuments), idx[kBoundaries] = 0; }},
    {"negative_length", [](auto&, auto& idx) { idx.replace(kLengths, 4, 4, '\xFF'); }},
    {"long_length", [](auto&, auto& idx) { idx[kLengths + 3] = '\x7F'; }},
    {"begin_outside", [](auto&, auto& idx) { idx[kBegins + 8 + 6] = 1; }},
    {"negative_begin", [](auto&, auto& idx) { idx.replace(kBegins, 8, 8, '\xFF'); }},
    {"document_order", [](auto&, auto& idx) { idx[kDocuments + 8] = 3; }},
    {"document_start", [](auto&, auto& idx) { idx[kDocuments] = 1; }},
    {"document_end", [](auto&, auto& idx) { idx[kDocuments + 16] = 1; }},
    {"bin_cut", [](auto& bin, auto&) { bin.resize(bin.size() - 1); }},
    {"bin_longer", [](auto& bin, auto&) { bin += "\x01\x02"; }},
    {"bin_empty", [](auto& bin, auto&) { bin = ""; }},
};
INSTANTIATE_TEST_SUITE_P(, DamagedTokenFile, testing::ValuesIn(kDamages),
                         [](const auto& row) { return row.param.name; });

TEST(TokenFile, NamesTheMissingFile) {
  const TemporaryFolder folder;
  const std::string message = message_of<ConfigError>([&] { TokenFile file(folder.file("a")); });
  EXPECT_EQ(message.find(folder.file("a.bin")), 0u) << message;
}

}  // namespace
}  // namespace mmoe
