#pragma once
// bfloat16 as storage: arithmetic happens in float, the store rounds to nearest, ties to even.

#include <cstdint>
#include <cstring>

#include "kernels/types/host_device.h"

namespace mmoe::kernels {

// The upper half of an IEEE float: 1 sign, 8 exponent and 7 mantissa bits.
struct bf16 {
  uint16_t bits;

  bf16() = default;
  // Rounds to nearest even. A NaN stays a NaN (quiet), an overflow becomes infinity.
  MMOE_HOST_DEVICE inline explicit bf16(float value);
  MMOE_HOST_DEVICE inline explicit operator float() const;
};

MMOE_HOST_DEVICE inline bf16::bf16(float value) {
  uint32_t word;
  memcpy(&word, &value, sizeof word);
  const uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  const uint32_t quiet = (word >> 16) | 0x0040u;
  const uint32_t chosen = value != value ? quiet : rounded;
  bits = static_cast<uint16_t>(chosen);
}

MMOE_HOST_DEVICE inline bf16::operator float() const {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

}  // namespace mmoe::kernels
