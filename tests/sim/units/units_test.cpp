#include "sim/units/units.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(Units, ArithmeticKeepsTheUnit) {
  EXPECT_EQ(Bytes{3} + Bytes{4}, Bytes{7});
  EXPECT_EQ(2 * Bytes{3} - Bytes{1}, Bytes{5});
  EXPECT_EQ(Bytes{6} / Bytes{3}, 2.0);
  EXPECT_EQ((Flops{6e12} / tflop_per_s(3)).value, 2.0);
  EXPECT_EQ((Bytes{1e9} / gb_per_s(2)).value, 0.5);
  EXPECT_LT(Seconds{1}, Seconds{2});
}

TEST(Units, GibIsBinaryAndGbIsDecimal) {
  EXPECT_EQ(gib(1).value, 1073741824.0);
  EXPECT_EQ(gb_per_s(1).value, 1e9);
}

TEST(Units, BytesPrintWithFourDigitsAndBinaryPrefixes) {
  EXPECT_EQ(to_string(Bytes{640}), "640 B");
  EXPECT_EQ(to_string(Bytes{1536}), "1.500 KiB");
  EXPECT_EQ(to_string(gib(3.421875)), "3.422 GiB");
  EXPECT_EQ(to_string(gib(80)), "80.00 GiB");
  EXPECT_EQ(to_string(gib(512)), "512.0 GiB");
}

TEST(Units, SecondsPrintInTheUnitThatPeopleSay) {
  EXPECT_EQ(to_string(Seconds{12.3e-6}), "12.30 us");
  EXPECT_EQ(to_string(Seconds{0.0123}), "12.30 ms");
  EXPECT_EQ(to_string(Seconds{4.5}), "4.500 s");
  EXPECT_EQ(to_string(Seconds{600}), "10.0 min");
  EXPECT_EQ(to_string(Seconds{7200}), "2.0 h");
  EXPECT_EQ(to_string(Seconds{86400 * 3.25}), "3.2 days");
}

}  // namespace
}  // namespace mmoe
