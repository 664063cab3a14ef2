#include "train/data/sample_order.h"

#include <algorithm>
#include <bit>

#include "sim/units/errors.h"
#include "train/data/counter_random.h"

namespace mmoe {

SampleOrder::SampleOrder(int64_t num_samples, uint64_t seed) : num_samples_(num_samples), seed_(seed) {
  MMOE_CHECK(num_samples >= 1) << num_samples;
  half_bits_ = std::max(1, static_cast<int>(std::bit_width(static_cast<uint64_t>(num_samples - 1)) + 1) / 2);
}

int64_t SampleOrder::sample(int64_t place) const {
  MMOE_CHECK(place >= 0) << place;
  constexpr uint64_t kNumRounds = 6;
  const uint64_t key = counter_random(seed_, static_cast<uint64_t>(place / num_samples_));
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  auto value = static_cast<uint64_t>(place % num_samples_);
  do {
    uint64_t left = value >> half_bits_, right = value & mask;
    for (uint64_t round = 0; round < kNumRounds; ++round) {
      const uint64_t next = left ^ (counter_random(key + round, right) & mask);
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= static_cast<uint64_t>(num_samples_));
  return static_cast<int64_t>(value);
}

}  // namespace mmoe
