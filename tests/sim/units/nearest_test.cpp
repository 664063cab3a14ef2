#include "sim/units/nearest.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(EditDistance, CountsEditsAndSwaps) {
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("job", "job"), 0);
  EXPECT_EQ(edit_distance("jbo", "job"), 1);  // a swap of neighbours is one edit
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
}

TEST(Nearest, FindsTheTypo) {
  EXPECT_EQ(nearest("jbo", {"json", "job", "config"}), "job");
  EXPECT_EQ(nearest("tensr", {"tensor", "context"}), "tensor");
}

TEST(Nearest, FindsAPart) { EXPECT_EQ(nearest("olmoe", {"mixtral-8x7b", "olmoe-1b-7b"}), "olmoe-1b-7b"); }

TEST(Nearest, SaysNothingWhenNothingIsNear) { EXPECT_EQ(nearest("zzzzzz", {"tensor", "context"}), ""); }

TEST(Join, SeparatesWords) {
  EXPECT_EQ(join({"a", "b"}), "a, b");
  EXPECT_EQ(join({}), "");
}

}  // namespace
}  // namespace mmoe
