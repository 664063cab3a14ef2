#include "train/data/statistics.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(UnigramEntropy, MatchesHandComputedCases) {
  // Four equally common tokens: 2 bits each; 8 tokens over 16 bytes are 1 bit a byte.
  EXPECT_DOUBLE_EQ(*unigram_entropy_bits_per_byte({2, 2, 0, 2, 2}, 16), 1.0);
  // Counts 1/2, 1/4, 1/4: 1.5 bits a token.
  EXPECT_DOUBLE_EQ(*unigram_entropy_bits_per_byte({4, 2, 2}, 8), 1.5);
  EXPECT_DOUBLE_EQ(*unigram_entropy_bits_per_byte({7}, 7), 0.0);
  EXPECT_FALSE(unigram_entropy_bits_per_byte({0, 0}, 0));
}

}  // namespace
}  // namespace mmoe
