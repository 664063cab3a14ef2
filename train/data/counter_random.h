#pragma once
// Counter-based random numbers: a value depends on its key and counter alone, never on how many were drawn before.

#include <cstdint>

namespace mmoe {

// 64 well-mixed bits: the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
// generators"), twice.
constexpr uint64_t counter_random(uint64_t key, uint64_t counter) {
  const auto finalize = [](uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  };
  return finalize(finalize(key) ^ counter);
}

}  // namespace mmoe
