#include "sim/elastic/philox.h"

#include <gtest/gtest.h>

#include <set>

namespace mmoe {
namespace {

// Random123's known answers for philox4x32-10 (kat_vectors).
TEST(Philox, KnownAnswers) {
  constexpr auto kZero = philox4x32({0, 0, 0, 0}, {0, 0});
  EXPECT_EQ(kZero, (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr auto kOnes = philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u});
  EXPECT_EQ(kOnes, (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  constexpr auto kPi = philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0});
  EXPECT_EQ(kPi, (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Every counter field reaches the bits: no two of these may share them.
TEST(Philox, DrawBitsUseEveryField) {
  const uint64_t one = 1;
  const std::set<uint64_t> bits = {
      draw_bits(0, 0, 0, 0),         draw_bits(1, 0, 0, 0),         draw_bits(0, 1, 0, 0),
      draw_bits(0, 0, 1, 0),         draw_bits(0, 0, 0, 1),         draw_bits(one << 32, 0, 0, 0),
      draw_bits(0, one << 32, 0, 0), draw_bits(0, 0, one << 32, 0), draw_bits(0, 0, one << 33, 0)};
  EXPECT_EQ(bits.size(), 9u);
}

}  // namespace
}  // namespace mmoe
