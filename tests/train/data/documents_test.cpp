#include "train/data/documents.h"

#include <gtest/gtest.h>

#include <random>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

using Texts = std::vector<std::string_view>;

TEST(SplitDocuments, SeparatorBelongsToTheDocumentBefore) {
  EXPECT_EQ(split_documents("a\nb\n\nc\n\n", "\n\n"), (Texts{"a\nb\n\n", "c\n\n"}));
  EXPECT_EQ(split_documents("a", "\n\n"), (Texts{"a"}));
  EXPECT_EQ(split_documents("a|b|c", "|"), (Texts{"a|", "b|", "c"}));
}

TEST(SplitDocuments, RunsOfSeparatorsMakeNoEmptyDocuments) {
  EXPECT_EQ(split_documents("\n\na\n\n\n\nb", "\n\n"), (Texts{"\n\na\n\n\n\n", "b"}));
  EXPECT_EQ(split_documents("\n\n\n\n", "\n\n"), (Texts{"\n\n\n\n"}));
  EXPECT_EQ(split_documents("", "\n\n"), Texts{});
}

TEST(SplitDocuments, PutTogetherTheyAreTheText) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 500; ++trial) {
    std::string text, together;
    for (auto i = random() % 40; i > 0; --i) text += random() % 2 ? '\n' : static_cast<char>('a' + random() % 3);
    for (const std::string_view document : split_documents(text, "\n\n")) together += document;
    EXPECT_EQ(together, text);
  }
}

TEST(ParseSeparator, ReadsEscapes) {
  EXPECT_EQ(parse_separator("\\n\\n"), "\n\n");
  EXPECT_EQ(parse_separator("a\\t\\r\\\\\\xfFb"),
            "a\t\r\\\xFF"
            "b");
  EXPECT_EQ(parse_separator("\\0"), std::string(1, '\0'));
  for (const char* bad : {"", "\\", "\\q", "\\x", "\\x1", "\\xg0", "\\x0g"}) {
    EXPECT_THROW(parse_separator(bad), ConfigError) << bad;
  }
}

TEST(EscapeText, IsReadBackByParseSeparator) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  EXPECT_EQ(parse_separator(escape_text(bytes)), bytes);
  EXPECT_EQ(escape_text("a\n\xC3"), "a\\n\\xc3");
}

}  // namespace
}  // namespace mmoe
