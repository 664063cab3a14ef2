#include "sim/units/units.h"

#include <array>
#include <cmath>
#include <cstdio>

namespace mmoe {
namespace {

std::string format(double value, const char* unit, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f %s", digits, value, unit);
  return text.data();
}

// Decimals that leave four significant digits.
int decimals(double value) {
  const double magnitude = std::fabs(value);
  return magnitude >= 1000 ? 0 : magnitude >= 100 ? 1 : magnitude >= 10 ? 2 : 3;
}

}  // namespace

std::string to_string(Bytes bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = bytes.value;
  std::size_t unit = 0;
  while (std::fabs(value) >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return format(value, kUnits[unit], unit == 0 ? 0 : decimals(value));
}

std::string to_string(Seconds seconds) {
  const double value = seconds.value;
  const double magnitude = std::fabs(value);
  if (magnitude < 1e-3) return format(value * 1e6, "us", decimals(value * 1e6));
  if (magnitude < 1) return format(value * 1e3, "ms", decimals(value * 1e3));
  if (magnitude < 120) return format(value, "s", decimals(value));
  if (magnitude < 7200) return format(value / 60, "min", 1);
  if (magnitude < 172800) return format(value / 3600, "h", 1);
  return format(value / 86400, "days", 1);
}

}  // namespace mmoe
