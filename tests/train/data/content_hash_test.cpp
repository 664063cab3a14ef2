#include "train/data/content_hash.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

// Test vectors of draft-eastlake-fnv (appendix C, FNV-1a 64 bits).
TEST(ContentHash, IsFnv1a) {
  EXPECT_EQ(content_hash(""), 0xcbf29ce484222325);
  EXPECT_EQ(content_hash("a"), 0xaf63dc4c8601ec8c);
  EXPECT_EQ(content_hash("foobar"), 0x85944171f73967e8);
  EXPECT_EQ(content_hash_text(content_hash("foobar")), "fnv1a64:85944171f73967e8");
}

TEST(ContentHash, ContinuesOverParts) { EXPECT_EQ(content_hash("bar", content_hash("foo")), content_hash("foobar")); }

}  // namespace
}  // namespace mmoe
