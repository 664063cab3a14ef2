#include "train/data/plain_text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mmoe {
namespace {

std::vector<std::string> chunks(std::string_view text) {
  std::vector<std::string> found;
  while (!text.empty()) {
    found.emplace_back(first_chunk(text));
    text.remove_prefix(found.back().size());
  }
  return found;
}

TEST(FirstChunk, EndsBehindLineFeeds) {
  EXPECT_EQ(chunks("a b\nc\n\n\nd"), (std::vector<std::string>{"a b\n", "c\n\n\n", "d"}));
  EXPECT_EQ(chunks("\n\na"), (std::vector<std::string>{"\n\n", "a"}));
}

TEST(FirstChunk, CutsLongLinesBeforeASpaceElseBetweenCharacters) {
  const std::string word(3000, 'x');
  EXPECT_EQ(chunks(word + " " + word), (std::vector<std::string>{word, " " + word}));
  const std::string lead(kMaxChunkSize - 1, 'x');
  for (const std::string character : {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"}) {
    EXPECT_EQ(chunks(lead + character + "y"), (std::vector<std::string>{lead, character + "y"})) << character;
  }
  // Continuation bytes without end still make progress, one bounded chunk at a time.
  for (const std::string& chunk : chunks(std::string(3 * kMaxChunkSize, '\x80')))
    EXPECT_LE(chunk.size(), kMaxChunkSize);
  EXPECT_EQ(chunks(std::string(2 * kMaxChunkSize, '\n')).size(), 2u);
}

// The first code points behind each boundary of table 3-7 of the Unicode standard, and what stands just outside it.
TEST(PlainPrefix, AcceptsWellFormedCharactersOnly) {
  for (const std::string good : {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                                 "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\t", "\r\n", " "}) {
    EXPECT_EQ(plain_prefix("a" + good), 1 + good.size()) << good;
  }
  for (const std::string bad :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE2\x82",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x96\x81"}) {
    EXPECT_EQ(plain_prefix("a" + bad), 1u) << bad;
  }
  EXPECT_EQ(plain_prefix(std::string_view("a\0b", 3)), 1u);
  EXPECT_EQ(plain_prefix(""), 0u);
}

}  // namespace
}  // namespace mmoe
