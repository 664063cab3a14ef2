#include "train/data/tokenizer.h"

#include <gtest/gtest.h>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

TEST(ByteTokenizer, IdsAreTheBytes) {
  const auto tokenizer = make_byte_tokenizer();
  EXPECT_EQ(tokenizer->kind(), "bytes");
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  EXPECT_EQ(tokenizer->encode(std::string_view("A\0\xFF", 3)), (std::vector<int32_t>{65, 0, 255}));
}

TEST(ByteTokenizer, GivesBackEveryByte) {
  const auto tokenizer = make_byte_tokenizer();
  std::string text;
  for (int i = 0; i < 256; ++i) text += static_cast<char>(i);
  const std::vector<int32_t> tokens = tokenizer->encode(text);
  EXPECT_EQ(tokenizer->decode(tokens), text);
  EXPECT_EQ(tokenizer->text_size(tokens), 256);
}

TEST(ByteTokenizer, EncodeAppends) {
  std::vector<int32_t> tokens = {7};
  make_byte_tokenizer()->encode("a", tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{7, 97}));
}

TEST(ByteTokenizer, RefusesIdsOutsideTheVocabulary) {
  const auto tokenizer = make_byte_tokenizer();
  EXPECT_THROW(tokenizer->decode(std::vector<int32_t>{256}), ConfigError);
  EXPECT_THROW(tokenizer->decode(std::vector<int32_t>{-1}), ConfigError);
}

}  // namespace
}  // namespace mmoe
