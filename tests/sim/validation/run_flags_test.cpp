#include "sim/validation/run_flags.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(RunFlags, KeysValuesAndNumbers) {
  const RunFlags flags("a;b=1.5;c=x y;d=;");
  EXPECT_TRUE(flags.has("a"));
  EXPECT_FALSE(flags.has("e"));
  EXPECT_EQ(flags.number("b", 0), 1.5);
  EXPECT_EQ(flags.number("c", 7), 7);
  EXPECT_EQ(flags.get("c"), "x y");
  EXPECT_EQ(flags.get("d", "fallback"), "fallback");
}

}  // namespace
}  // namespace mmoe
