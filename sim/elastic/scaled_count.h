#pragma once
// Counts far beyond double's range in 64-bit integer arithmetic, the same on every machine.

#include <bit>
#include <cstdint>
#include <vector>

namespace mmoe {

__extension__ typedef unsigned __int128 Uint128;

// mantissa * 2^exponent, mantissa 0 or with its top bit set. Sums and products are cut to 64 bits (relative error below
// 2^-62 each), with no rounding mode, contraction or library function that could differ between machines.
struct ScaledCount {
  uint64_t mantissa = 0;
  int32_t exponent = 0;

  static constexpr ScaledCount of(uint64_t value) {
    if (value == 0) return {};
    const int shift = std::countl_zero(value);
    return {value << shift, -shift};
  }
  constexpr bool is_zero() const { return mantissa == 0; }

  friend constexpr ScaledCount operator*(ScaledCount a, ScaledCount b) {
    if (a.is_zero() || b.is_zero()) return {};
    const Uint128 product = static_cast<Uint128>(a.mantissa) * b.mantissa;
    const uint64_t high = static_cast<uint64_t>(product >> 64);
    if (high >> 63) return {high, a.exponent + b.exponent + 64};
    return {static_cast<uint64_t>(product >> 63), a.exponent + b.exponent + 63};
  }
  friend constexpr ScaledCount operator+(ScaledCount a, ScaledCount b) {
    if (a.is_zero()) return b;
    if (b.is_zero()) return a;
    if (a.exponent < b.exponent) {
      const ScaledCount larger = b;
      b = a;
      a = larger;
    }
    const int32_t shift = a.exponent - b.exponent;
    if (shift >= 64) return a;
    const uint64_t sum = a.mantissa + (b.mantissa >> shift);
    if (sum >= a.mantissa) return {sum, a.exponent};
    return {(sum >> 1) | (uint64_t{1} << 63), a.exponent + 1};  // carried
  }
  friend constexpr bool operator<(ScaledCount a, ScaledCount b) {
    if (a.is_zero() || b.is_zero()) return !b.is_zero();
    return a.exponent != b.exponent ? a.exponent < b.exponent : a.mantissa < b.mantissa;
  }
};

// a / b and log a as doubles (natural logarithm; a > 0).
double ratio(ScaledCount a, ScaledCount b);
double log(ScaledCount a);

// base^power for base >= 1, power >= 0, within a relative 2^-54 max(1, power); powers above 2^20 count as 2^20.
ScaledCount power(uint32_t base, double power);

// Weights 1, r, ..., r^(num_weights - 1) whose law on 0, 1, ... has this mean, 0 < mean < num_weights - 1: of all laws
// with that mean the one closest to the uniform in KL divergence (exponential tilting; Cover, Thomas, "Elements of
// information theory", chapter 11). r is a multiple of 2^-30 in (0, 2^30], found by integer bisection.
std::vector<ScaledCount> tilted_weights(int num_weights, double mean);

// Inverse of the weights' cumulative law: least j with bits / 2^64 * (w_0 + ... + w_{n-1}) < w_0 + ... + w_j.
int pick(const ScaledCount* weights, int num_weights, uint64_t bits);

}  // namespace mmoe
