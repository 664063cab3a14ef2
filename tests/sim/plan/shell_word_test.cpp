#include "sim/plan/shell_word.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(ShellWord, OnlyWhatAShellWouldChangeIsQuoted) {
  EXPECT_EQ(shell_word("runs/job-1.json"), "runs/job-1.json");
  EXPECT_EQ(shell_word("my job.json"), "'my job.json'");
  EXPECT_EQ(shell_word(R"(["moe"])"), R"('["moe"]')");
  EXPECT_EQ(shell_word("it's"), R"('it'\''s')");
  EXPECT_EQ(shell_word(""), "''");
}

}  // namespace
}  // namespace mmoe
