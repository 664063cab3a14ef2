#include "train/data/json_lines.h"

#include <gtest/gtest.h>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

TEST(JsonLines, GivesTheTextOfEachLine) {
  const std::string bytes =
      "{\"text\": \"a\\nb\", \"id\": 1}\n\n  \r\n{\"id\": 2, \"text\": \"\\u00e9\"}\n{\"text\": \"\"}\n{\"text\": "
      "\"c\"}";
  EXPECT_EQ(json_lines_documents(bytes, "text", "x"), (std::vector<std::string>{"a\nb", "\xc3\xa9", "c"}));
  EXPECT_TRUE(json_lines_documents("", "text", "x").empty());
  EXPECT_TRUE(is_json_lines("a/b.jsonl") && is_json_lines("c.ndjson") && !is_json_lines("d.json.txt"));
}

std::string refusal(const std::string& bytes) {
  try {
    json_lines_documents(bytes, "text", "file.jsonl");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(JsonLines, NamesTheLineThatIsWrong) {
  EXPECT_NE(refusal("{\"text\": \"a\"}\n{\"text\": ").find("file.jsonl:2: is no JSON object"), std::string::npos);
  EXPECT_NE(refusal("\n[1]").find("file.jsonl:2: is no JSON object"), std::string::npos);
  EXPECT_NE(refusal("{\"body\": \"a\"}").find("file.jsonl:1: has no text under \"text\""), std::string::npos);
  EXPECT_NE(refusal("{\"text\": 3}").find("--json-key"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
