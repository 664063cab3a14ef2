#include "sim/elastic/scaled_count.h"

#include <array>
#include <cmath>
#include <numbers>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int kFractionBits = 58;

// floor(sqrt(value)), bit by bit.
uint64_t integer_sqrt(Uint128 value) {
  uint64_t root = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const uint64_t trial = root | (uint64_t{1} << bit);
    if (static_cast<Uint128>(trial) * trial <= value) root = trial;
  }
  return root;
}

// log2(base) with kFractionBits fractional bits. Squaring the mantissa doubles its logarithm: each carry is the next
// bit.
uint64_t fixed_log2(uint32_t base) {
  const int whole = std::bit_width(base) - 1;
  uint64_t mantissa = uint64_t{base} << (63 - whole);  // [1, 2) with 63 fractional bits
  uint64_t result = static_cast<uint64_t>(whole) << kFractionBits;
  for (int bit = kFractionBits - 1; bit >= 0; --bit) {
    const Uint128 square = static_cast<Uint128>(mantissa) * mantissa;  // 126 fractional bits
    if (square >> 127) {
      result |= uint64_t{1} << bit;
      mantissa = static_cast<uint64_t>(square >> 64);
    } else {
      mantissa = static_cast<uint64_t>(square >> 63);
    }
  }
  return result;
}

// 2^fraction for a fraction with kFractionBits bits: the product of 2^(2^-i) over its bits; [1, 2) with 63 fractional
// bits.
uint64_t fixed_exp2(uint64_t fraction) {
  uint64_t result = uint64_t{1} << 63;
  uint64_t root = uint64_t{1} << 63;  // 2^(2^-i): repeated square roots of 2
  for (int bit = kFractionBits - 1; bit >= 0; --bit) {
    const bool first = bit == kFractionBits - 1;
    root = integer_sqrt(first ? static_cast<Uint128>(1) << 127 : static_cast<Uint128>(root) << 63);
    if ((fraction >> bit) & 1) result = static_cast<uint64_t>((static_cast<Uint128>(result) * root) >> 63);
  }
  return result;
}

}  // namespace

double ratio(ScaledCount a, ScaledCount b) {
  if (a.is_zero()) return 0;
  return std::ldexp(static_cast<double>(a.mantissa) / static_cast<double>(b.mantissa), a.exponent - b.exponent);
}

double log(ScaledCount a) {
  // The mantissa as a fraction in [1/2, 1), so that a value near 1 loses nothing to the exponent's share.
  const double fraction = std::ldexp(static_cast<double>(a.mantissa), -64);
  return std::log(fraction) + (a.exponent + 64) * std::numbers::ln2;
}

ScaledCount power(uint32_t base, double power) {
  MMOE_CHECK(base >= 1 && power >= 0) << "power(" << base << ", " << power << ")";
  if (base == 1 || power == 0) return ScaledCount::of(1);
  power = std::fmin(power, 1048576.0);
  int exponent = 0;
  const double fraction = std::frexp(power, &exponent);  // power = fraction * 2^exponent, exact
  const auto mantissa = static_cast<uint64_t>(std::ldexp(fraction, 53));
  exponent -= 53;  // at most 20 - 53, so the shift below is to the right
  const Uint128 product = static_cast<Uint128>(fixed_log2(base)) * mantissa;
  const Uint128 log2 = -exponent >= 128 ? Uint128{0} : product >> -exponent;
  const auto whole = static_cast<int32_t>(log2 >> kFractionBits);
  const uint64_t bits = static_cast<uint64_t>(log2) & ((uint64_t{1} << kFractionBits) - 1);
  return {fixed_exp2(bits), whole - 63};
}

std::vector<ScaledCount> tilted_weights(int num_weights, double mean) {
  MMOE_CHECK(num_weights >= 2 && mean > 0 && mean < num_weights - 1) << num_weights << " weights, mean " << mean;
  const auto powers_of = [&](uint64_t ratio) {
    ScaledCount r = ScaledCount::of(ratio);
    r.exponent -= 30;
    std::vector<ScaledCount> weights = {ScaledCount::of(1)};
    while (static_cast<int>(weights.size()) < num_weights) weights.push_back(weights.back() * r);
    return weights;
  };
  ScaledCount wanted = ScaledCount::of(static_cast<uint64_t>(std::ldexp(mean, 40)));  // num_weights is below 2^16
  wanted.exponent -= 40;
  uint64_t below = 1, above = uint64_t{1} << 60;  // the mean rises with the ratio
  while (above - below > 1) {
    const uint64_t middle = below + (above - below) / 2;
    const std::vector<ScaledCount> weights = powers_of(middle);
    ScaledCount total, moment;
    for (size_t j = 0; j < weights.size(); ++j) {
      total = total + weights[j];
      moment = moment + weights[j] * ScaledCount::of(j);
    }
    (wanted * total < moment ? above : below) = middle;
  }
  return powers_of(below);
}

int pick(const ScaledCount* weights, int num_weights, uint64_t bits) {
  ScaledCount total;
  for (int j = 0; j < num_weights; ++j) total = total + weights[j];
  MMOE_CHECK(!total.is_zero()) << "no draw keeps the budget";
  ScaledCount target = total * ScaledCount::of(bits);
  target.exponent -= 64;
  ScaledCount cumulative;
  int last = 0;
  for (int j = 0; j < num_weights; ++j) {
    if (weights[j].is_zero()) continue;
    cumulative = cumulative + weights[j];
    if (target < cumulative) return j;
    last = j;
  }
  return last;
}

}  // namespace mmoe
