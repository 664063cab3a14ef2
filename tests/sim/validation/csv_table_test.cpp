#include "sim/validation/csv_table.h"

#include <gtest/gtest.h>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

TEST(CsvTable, ReadsQuotedFieldsLineEndsAndNumbersWithRemarks) {
  const CsvTable table = CsvTable::parse("id,a,b\r\nx,\"1,5 \"\"q\"\"\",51200 (unverified)\n\ny,two,\n", "t.csv");
  ASSERT_EQ(table.rows().size(), 2);
  EXPECT_EQ(table.rows()[0].text("a"), "1,5 \"q\"");
  EXPECT_EQ(table.rows()[0].integer("b"), 51200);
  EXPECT_EQ(table.rows()[1].number("a"), std::nullopt);
  EXPECT_EQ(table.rows()[1].number("b"), std::nullopt);
  EXPECT_EQ(table.rows()[1].text("no such column"), "");
}

TEST(CsvTable, MistakesNameFileAndLine) {
  const auto message = [](const std::string& text) {
    try {
      CsvTable::parse(text, "t.csv");
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message("a,b\n1,2\n3\n").find("t.csv: line 3: has 1 fields"), std::string::npos);
  EXPECT_NE(message("a,a\n").find("twice"), std::string::npos);
  EXPECT_NE(message("a\n\"1\n").find("never ends"), std::string::npos);
  EXPECT_NE(message("").find("empty"), std::string::npos);
  EXPECT_THROW(CsvTable::load("/no/such/file.csv"), ConfigError);
}

}  // namespace
}  // namespace mmoe
