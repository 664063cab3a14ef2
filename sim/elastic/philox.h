#pragma once
// Philox4x32-10, a counter-based random number generator: a pure function of key and counter.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

#include <array>
#include <cstdint>

namespace mmoe {

// 128 random bits for a 128-bit counter and a 64-bit key.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9u;  // golden ratio
    key[1] += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return counter;
}

// The 64 bits that decide k of one layer. Unique for steps below 2^64, micro-batches below 2^48 and layers below 2^16.
constexpr uint64_t draw_bits(uint64_t seed, uint64_t step, uint64_t micro_batch, uint32_t layer) {
  const auto bits =
      philox4x32({static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32), static_cast<uint32_t>(micro_batch),
                  (static_cast<uint32_t>(micro_batch >> 32) << 16) | (layer & 0xFFFFu)},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return (uint64_t{bits[0]} << 32) | bits[1];
}

// A number in (0, 1) from 53 of the bits.
constexpr double uniform(uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }

}  // namespace mmoe
