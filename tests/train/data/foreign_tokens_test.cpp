#include "train/data/foreign_tokens.h"

#include <gtest/gtest.h>

#include <functional>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(ForeignTokens, StreamsAreCutBehindTheDocumentEnd) {
  const TemporaryFolder folder;
  const std::string narrow = folder.write("narrow.bin", bytes_of<uint16_t>({1, 2, 9, 65000, 9, 9, 4}));
  const ForeignTokens cut(narrow, ForeignFormat::kUint16, 65536, 9);
  ASSERT_EQ(cut.num_documents(), 4);
  EXPECT_EQ(cut.document(0), (std::vector<int32_t>{1, 2, 9}));
  EXPECT_EQ(cut.document(1), (std::vector<int32_t>{65000, 9}));
  EXPECT_EQ(cut.document(2), (std::vector<int32_t>{9}));
  EXPECT_EQ(cut.document(3), (std::vector<int32_t>{4}));
  EXPECT_EQ(ForeignTokens(narrow, ForeignFormat::kUint16, 65536, -1).num_documents(), 1);
  const std::string wide = folder.write("wide.bin", bytes_of<uint32_t>({100000, 9}));
  EXPECT_EQ(ForeignTokens(wide, ForeignFormat::kUint32, 128256, 9).document(0), (std::vector<int32_t>{100000, 9}));
  EXPECT_EQ(ForeignTokens(folder.write("empty.bin", ""), ForeignFormat::kUint16, 9, -1).num_documents(), 0);
}

TEST(ForeignTokens, HeadersOfLlmCSayTypeAndNumber) {
  const TemporaryFolder folder;
  const auto file = [&](int32_t magic, int32_t count, const std::string& ids) {
    std::vector<int32_t> header(256);
    header[0] = magic;
    header[1] = 1;
    header[2] = count;
    return folder.write("x.bin", bytes_of(header) + ids);
  };
  const auto open = [&](const std::string& path) { return ForeignTokens(path, ForeignFormat::kLlmC, 200000, 50256); };
  EXPECT_EQ(open(file(20240520, 3, bytes_of<uint16_t>({7, 50256, 8}))).num_documents(), 2);
  EXPECT_EQ(open(file(20240801, 1, bytes_of<uint32_t>({128000}))).document(0), (std::vector<int32_t>{128000}));
  EXPECT_NE(refusal([&] {
              open(file(20240520, 4, bytes_of<uint16_t>({7, 50256, 8})));
            }).find("not 4 ids"),
            std::string::npos);
  EXPECT_NE(refusal([&] { open(file(7, 0, "")); }).find("does not begin with the header"), std::string::npos);
  EXPECT_NE(refusal([&] { open(folder.write("short.bin", "abc")); }).find("does not begin"), std::string::npos);
}

TEST(ForeignTokens, RefusesWhatIsNoWholeIdOrOutsideTheVocabulary) {
  const TemporaryFolder folder;
  EXPECT_NE(refusal([&] {
              ForeignTokens(folder.write("odd.bin", "abc"), ForeignFormat::kUint16, 9, -1);
            }).find("not whole ids of 2 bytes"),
            std::string::npos);
  const ForeignTokens large(folder.write("large.bin", bytes_of<uint16_t>({1, 300})), ForeignFormat::kUint16, 300, -1);
  EXPECT_NE(refusal([&] { large.document(0); }).find("token 300 at position 1"), std::string::npos);
  EXPECT_THROW(parse_foreign_format("gpt"), ConfigError);
}

// Every integer type that Megatron-LM writes: one sequence of three tokens, one document.
TEST(ForeignTokens, ReadsEveryIntegerTypeOfMegatron) {
  const TemporaryFolder folder;
  const auto index = [](uint8_t code) {
    return std::string("MMIDIDX\0\0", 9) + bytes_of<uint64_t>({1}) + static_cast<char>(code) +
           bytes_of<uint64_t>({1, 2}) + bytes_of<int32_t>({3}) + bytes_of<int64_t>({0, 0, 1});
  };
  const auto read = [&](uint8_t code, const std::string& ids) {
    folder.write("x.bin", ids);
    folder.write("x.idx", index(code));
    return ForeignTokens(folder.file("x.bin"), ForeignFormat::kMegatron, 1000, -1).document(0);
  };
  const std::vector<int32_t> expected = {1, 0, 100};
  EXPECT_EQ(read(1, bytes_of<uint8_t>({1, 0, 100})), expected);
  EXPECT_EQ(read(2, bytes_of<int8_t>({1, 0, 100})), expected);
  EXPECT_EQ(read(3, bytes_of<int16_t>({1, 0, 100})), expected);
  EXPECT_EQ(read(4, bytes_of<int32_t>({1, 0, 100})), expected);
  EXPECT_EQ(read(5, bytes_of<int64_t>({1, 0, 100})), expected);
  EXPECT_EQ(read(8, bytes_of<uint16_t>({1, 0, 100})), expected);
  EXPECT_NE(refusal([&] { read(7, bytes_of<float>({1, 0, 100})); }).find("token type 7"), std::string::npos);
  // Neither a negative id nor one that int32 cannot hold is taken for another one.
  EXPECT_NE(refusal([&] {
              read(2, bytes_of<int8_t>({1, -3, 100}));
            }).find("outside the vocabulary"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              read(5, bytes_of<int64_t>({1, (int64_t{1} << 32) + 5, 100}));
            }).find("outside the vocabulary"),
            std::string::npos);
}

}  // namespace
}  // namespace mmoe
