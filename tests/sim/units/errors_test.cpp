#include "sim/units/errors.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(Check, PassesInSilence) { EXPECT_NO_THROW(MMOE_CHECK(1 + 1 == 2) << "never built"); }

TEST(Check, FailureNamesConditionAndContext) {
  try {
    MMOE_CHECK(1 + 1 == 3) << "layer " << 7;
    FAIL() << "did not throw";
  } catch (const std::logic_error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("1 + 1 == 3"), std::string::npos) << text;
    EXPECT_NE(text.find("layer 7"), std::string::npos) << text;
    EXPECT_NE(text.find("errors_test.cpp"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace mmoe
