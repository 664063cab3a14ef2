#include "sim/cli/table.h"

#include <gtest/gtest.h>

#include <sstream>

namespace mmoe {
namespace {

TEST(Table, NumbersStandRightAndTextLeft) {
  Table table{.header = {"cause", "GiB"}, .rows = {}};
  table.add({"weights", "1.50"});
  table.add({"kept", "12.25"});
  std::ostringstream out;
  print_table(table, out, "  ");
  EXPECT_EQ(out.str(), "  cause      GiB\n  weights   1.50\n  kept     12.25\n");
}

TEST(Table, TextThatStartsWithADigitIsText) {
  Table table{.header = {"a"}, .rows = {}};
  table.add({"8 layers, of 16"});
  table.add({"x"});
  std::ostringstream out;
  print_table(table, out);
  EXPECT_EQ(out.str(), "a\n8 layers, of 16\nx\n");
}

TEST(Table, CsvQuotesWhatItMust) {
  const Table table{.header = {"a", "b"}, .rows = {{"1,2", "say \"x\""}}};
  std::ostringstream out;
  print_csv(table, out);
  EXPECT_EQ(out.str(), "a,b\n\"1,2\",\"say \"\"x\"\"\"\n");
}

TEST(Table, Numbers) {
  EXPECT_EQ(in_gib(1610612736), "1.50");
  EXPECT_EQ(in_gib(1610612736, gib_decimals(1610612736)), "1.500");
  EXPECT_EQ(gib_decimals(80 * 1073741824.0), 2);
  EXPECT_EQ(gib_decimals(0.0677 * 1073741824.0), 5);
  EXPECT_EQ(percent(0.1234), "12.3 %");
  EXPECT_EQ(significant(1234.5, 3), "1234");
  EXPECT_EQ(significant(0.012345, 3), "0.0123");
  EXPECT_EQ(significant(0, 3), "0");
}

}  // namespace
}  // namespace mmoe
