// Hostile headers, each refused by name, and random mutations of good ones: refused or sound, never a crash.
#include "train/checkpoint/safetensors_header.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/train/checkpoint/checkpoint_testing.h"

namespace mmoe {
namespace {

constexpr const char* kFile = "m.safetensors";

SafetensorsHeader parse(const std::string& json, std::uint64_t data_bytes) {
  return parse_safetensors_header(json, kSafetensorsLengthBytes + json.size() + data_bytes, kFile);
}

struct Hostile {
  const char* name;
  std::string json;
  std::uint64_t data_bytes;
  const char* message;  // with the tensor and what is wrong
};

// One tensor "w" with the given fields.
std::string with(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

const std::vector<Hostile>& hostile_headers() {
  static const std::string deep(100'000, '[');
  static const std::vector<Hostile> cases = {
      {"not_json", "{hello}", 0, "is not valid JSON"},
      {"cut_json", R"({"w":{"dtype":"U8",)", 0, "is not valid JSON"},
      {"text_after", "{} x", 0, "is not valid JSON"},
      {"two_objects", "{}{}", 0, "is not valid JSON"},
      {"zero_byte_hides_rest", std::string("{}\0{\"w\":1}", 10), 0, "is not valid JSON at header byte 3"},
      {"leading_space", " {}", 0, "does not begin with '{'"},
      {"list", "[]", 0, "does not begin with '{'"},
      {"invalid_utf8", with("\"dtype\":\"\xc3\x28\""), 0, "is not valid UTF-8"},
      {"overlong_utf8", "{\"\xc0\xaf\":1}", 0, "is not valid UTF-8"},
      {"utf8_surrogate", "{\"\xed\xa0\x80\":1}", 0, "is not valid UTF-8"},
      {"lone_escaped_surrogate", R"({"\ud800":1})", 0, "is not valid JSON"},
      {"number_overflow", with(R"("dtype":"U8","shape":[1e999],"data_offsets":[0,1])"), 1, "is not valid JSON"},
      {"duplicate_tensor",
       R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "the tensor \"w\" appears twice"},
      {"duplicate_tensor_escaped",
       R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("\u0077":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "the tensor \"w\" appears twice"},
      {"duplicate_key", with(R"("dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1])"), 1,
       "tensor \"w\": the key \"dtype\" appears twice"},
      {"duplicate_metadata", R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__ appears twice"},
      {"duplicate_metadata_key", R"({"__metadata__":{"a":"1","a":"2"}})", 0,
       "__metadata__: the key \"a\" appears twice"},
      {"metadata_number", R"({"__metadata__":{"a":1}})", 0, "__metadata__: the value of \"a\" must be text"},
      {"metadata_object", R"({"__metadata__":{"a":{}}})", 0, "the value of \"a\" must be text, not an object"},
      {"metadata_null", R"({"__metadata__":null})", 0, "__metadata__ must be an object, not null"},
      {"tensor_number", R"({"w":1})", 0, "tensor \"w\" must be an object, not a number"},
      {"tensor_list", R"({"w":[]})", 0, "tensor \"w\" must be an object, not a list"},
      {"unknown_dtype", with(R"("dtype":"F4","shape":[1],"data_offsets":[0,1])"), 1,
       "tensor \"w\": dtype \"F4\" is not known"},
      {"lower_case_dtype", with(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])"), 4, "dtype \"f32\" is not known"},
      {"dtype_number", with(R"("dtype":1,"shape":[1],"data_offsets":[0,1])"), 1,
       "\"dtype\" must be text, not a number"},
      {"no_dtype", with(R"("shape":[1],"data_offsets":[0,1])"), 1, "tensor \"w\": the key \"dtype\" is missing"},
      {"no_shape", with(R"("dtype":"U8","data_offsets":[0,1])"), 1, "the key \"shape\" is missing"},
      {"no_offsets", with(R"("dtype":"U8","shape":[1])"), 1, "the key \"data_offsets\" is missing"},
      {"unknown_key", with(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1)"), 1, "unknown key \"x\""},
      {"shape_float", with(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"), 1,
       "tensor \"w\": shape must hold whole numbers from 0 to 2^63 - 1 only, not \"1.0\""},
      {"shape_negative", with(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), 1, "only, not a negative number"},
      {"shape_exponent", with(R"("dtype":"U8","shape":[1e0],"data_offsets":[0,1])"), 1, "only, not \"1e0\""},
      {"shape_2_63", with(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1])"), 1,
       "only, not \"9223372036854775808\""},
      {"shape_2_64", with(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1])"), 1, "shape must hold"},
      {"shape_text", with(R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])"), 1, "only, not text"},
      {"shape_nested", with(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])"), 1, "only, not a list"},
      {"shape_number", with(R"("dtype":"U8","shape":1,"data_offsets":[0,1])"), 1,
       "\"shape\" must be a list of whole numbers"},
      {"shape_65_dimensions",
       [] {
         std::string ones = "1";
         for (int i = 0; i < 64; ++i) ones += ",1";
         return with("\"dtype\":\"U8\",\"shape\":[" + ones + "],\"data_offsets\":[0,1]");
       }(),
       1, "shape has more than 64 dimensions"},
      {"deep_nesting", R"({"w":)" + deep, 0, "tensor \"w\" must be an object, not a list"},
      // 2^32 * 2^32 is 0 modulo 2^64, and 2^62 * 4 bytes is 0 modulo 2^64
      {"product_overflow", with(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0,
       "tensor \"w\": the shape needs more than 2^63 - 1 bytes"},
      {"bytes_overflow", with(R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])"), 0,
       "the shape needs more than 2^63 - 1 bytes"},
      {"overflow_behind_zero", with(R"("dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0])"), 0,
       "the shape needs more than 2^63 - 1 bytes"},
      {"offsets_backwards", with(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), 1,
       "data_offsets [1, 0] run backwards"},
      {"offsets_one", with(R"("dtype":"U8","shape":[1],"data_offsets":[1])"), 1, "data_offsets must be two numbers"},
      {"offsets_three", with(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])"), 1,
       "data_offsets must be two numbers"},
      {"offsets_float", with(R"("dtype":"U8","shape":[1],"data_offsets":[0,1.5])"), 1,
       "data_offsets must hold whole numbers"},
      {"offsets_negative", with(R"("dtype":"U8","shape":[1],"data_offsets":[-1,0])"), 1,
       "data_offsets must hold whole numbers"},
      {"size_too_small", with(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4,
       "tensor \"w\": shape and dtype need 8 bytes, data_offsets hold 4"},
      {"size_too_large", with(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])"), 8,
       "need 4 bytes, data_offsets hold 8"},
      {"beyond_end", with(R"("dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807])"), 1,
       "is truncated: holds"},
      {"gap_at_start", with(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), 2,
       "tensor \"w\": begins at data byte 1, behind a gap"},
      {"gap",
       R"({"v":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3, "tensor \"w\": begins at data byte 2, behind a gap after the tensor that ends at 1"},
      {"overlap",
       R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       3, "tensor \"w\": begins at data byte 1, inside the tensor that ends at 2"},
      {"same_bytes_twice",
       R"({"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2, "tensor \"w\": begins at data byte 0, inside"},
      {"empty_inside",
       R"({"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
       2, "tensor \"w\": begins at data byte 1, inside"},
      {"trailing_bytes", with(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])"), 4, "3 bytes follow its last tensor"},
      {"truncated", with(R"("dtype":"U8","shape":[9],"data_offsets":[0,9])"), 4, "is truncated: holds 65 of 70 bytes"},
      {"bytes_without_tensors", "{}", 1, "1 bytes follow its last tensor"},
  };
  return cases;
}

class HostileHeader : public testing::TestWithParam<Hostile> {};

TEST_P(HostileHeader, IsRefusedInOneLine) {
  const std::string error = config_error([&] { parse(GetParam().json, GetParam().data_bytes); });
  EXPECT_EQ(error.rfind(std::string(kFile) + ": ", 0), 0u) << error;
  EXPECT_NE(error.find(GetParam().message), std::string::npos) << error;
  EXPECT_NE(error.find("; "), std::string::npos) << "says what to do: " << error;
  EXPECT_LT(error.size(), 400u);
}
INSTANTIATE_TEST_SUITE_P(, HostileHeader, testing::ValuesIn(hostile_headers()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(SafetensorsHeader, NamesWithLineBreaksStayInOneShortLine) {
  const std::string name = "a\\n\\u001b[31m" + std::string(10'000, 'x');
  const std::string error = config_error([&] { parse("{\"" + name + "\":1}", 0); });
  EXPECT_NE(error.find("\"a\\x0a\\x1b[31mxxx"), std::string::npos) << error;
  EXPECT_LT(error.size(), 300u);
}

TEST(SafetensorsHeader, QuotingNeverCutsACharacter) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "\xe2\x82\xac";  // the euro sign, three bytes
  const std::string result = quote_for_message(text);
  EXPECT_EQ(result, '"' + text.substr(0, 120) + "...\"");
  EXPECT_EQ(quote_for_message("x" + text), "\"x" + text.substr(0, 120) + "...\"");  // ends at byte 121
}

TEST(SafetensorsHeader, AcceptsWhatTheFormatAllows) {
  // Empty tensors, any order, trailing spaces, escapes in keys, no tensors at all.
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
  const SafetensorsHeader header = parse(R"({"b":{"data_offsets":[2,4],"dtype":"BF16","shape":[1,1]},)"
                                         R"("\u0061":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                                         R"("e":{"dtype":"F64","shape":[3,0],"data_offsets":[2,2]}} )"
                                         "\n\t ",
                                         4);
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[1].name, "e");
  EXPECT_EQ(header.tensors[2].name, "b");
}

TEST(SafetensorsHeader, TensorBytes) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(tensor_bytes(SafetensorsDtype::kF64, {}), 8);
  EXPECT_EQ(tensor_bytes(SafetensorsDtype::kBF16, {3, 5}), 30);
  EXPECT_EQ(tensor_bytes(SafetensorsDtype::kU8, {kMax}), kMax);
  EXPECT_EQ(tensor_bytes(SafetensorsDtype::kU16, {kMax / 2 + 1}), std::nullopt);
  EXPECT_EQ(tensor_bytes(SafetensorsDtype::kU8, {-1}), std::nullopt);
  EXPECT_EQ(tensor_bytes(SafetensorsDtype::kU8, {0, kMax}), 0);
}

// One change at random: a byte, a cut, a copy, or a piece of JSON that parsers stumble over.
std::string mutated(std::string text, std::mt19937& random) {
  static const std::vector<std::string> pieces = {"{",
                                                  "}",
                                                  "[",
                                                  "]",
                                                  ",",
                                                  ":",
                                                  "\"",
                                                  "\\",
                                                  "\\u0000",
                                                  "\\ud800",
                                                  "0",
                                                  "-1",
                                                  "1e9",
                                                  "1.5",
                                                  "18446744073709551615",
                                                  "9223372036854775807",
                                                  "null",
                                                  "true",
                                                  "\"dtype\"",
                                                  "\"shape\"",
                                                  "\"data_offsets\"",
                                                  "\"F64\"",
                                                  "__metadata__",
                                                  std::string(1, '\0'),
                                                  "\xff",
                                                  "\xc3",
                                                  "\xef\xbb\xbf",
                                                  "//",
                                                  "/*",
                                                  "NaN",
                                                  "\n"};
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  const std::size_t at = below(text.size() + 1), from = below(text.size()), length = below(60);
  const std::string& piece = pieces[below(pieces.size())];
  switch (below(6)) {
    case 0:
      if (at < text.size()) text[at] = static_cast<char>(random());
      break;
    case 1:
      if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
      break;
    case 2:
      text.erase(at, length / 5);
      break;
    case 3:
      text.insert(at, piece);
      break;
    case 4:
      text.replace(at, length / 10, piece);
      break;
    default:
      text.insert(at, text.substr(from, length));
  }
  return text;
}

// What every reader of the header relies on.
void expect_sound(const SafetensorsHeader& header, std::uint64_t data_bytes, const std::string& json) {
  std::int64_t end = 0;
  std::vector<std::string> names;
  for (const SafetensorsEntry& tensor : header.tensors) {
    ASSERT_EQ(tensor.begin, end) << json;
    ASSERT_EQ(tensor_bytes(tensor.dtype, tensor.shape), tensor.end - tensor.begin) << json;
    end = tensor.end;
    names.push_back(tensor.name);
  }
  ASSERT_EQ(static_cast<std::uint64_t>(end), data_bytes) << json;
  std::sort(names.begin(), names.end());
  ASSERT_EQ(std::adjacent_find(names.begin(), names.end()), names.end()) << json;
  // What was accepted can be written, and reads back the same.
  const std::string again = format_safetensors_header(header);
  const SafetensorsHeader copy = parse(again, data_bytes);
  ASSERT_EQ(format_safetensors_header(copy), again);
  ASSERT_EQ(copy.metadata, header.metadata);
}

TEST(SafetensorsHeader, SurvivesRandomMutations) {
  std::mt19937 random(20240607);
  const std::vector<std::string> seeds = {
      R"({"__metadata__":{"format":"pt","k":"v"},"embed":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("norm":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},)"
      R"("e":{"dtype":"U8","shape":[0],"data_offsets":[32,32]}}  )",
      R"({"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"U8","shape":[8,3],"data_offsets":[8,32]}})"};
  constexpr std::uint64_t kDataBytes = 32;
  int accepted = 0, refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string json = seeds[static_cast<std::size_t>(i) % seeds.size()];
    const auto changes = 1 + random() % 4;
    for (std::size_t j = 0; j < changes; ++j) json = mutated(json, random);
    try {
      expect_sound(parse(json, kDataBytes), kDataBytes, json);
      ++accepted;
    } catch (const ConfigError& error) {
      ASSERT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
      ++refused;
    }
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(accepted, 100);  // both ways are walked
  EXPECT_GT(refused, 10'000);
}

}  // namespace
}  // namespace mmoe
