#pragma once
// Numbers tagged with their unit, so that bytes are never added to seconds.

#include <compare>
#include <string>

namespace mmoe {

// Sums and comparisons need equal units; of products and quotients only those with a meaning are defined.
// double holds byte counts exactly up to 2^53 (9 PB).
template <class Unit>
struct Quantity {
  double value = 0;
  constexpr Quantity() = default;
  constexpr explicit Quantity(double v) : value(v) {}
  auto operator<=>(const Quantity&) const = default;
  friend constexpr Quantity operator+(Quantity a, Quantity b) { return Quantity{a.value + b.value}; }
  friend constexpr Quantity operator-(Quantity a, Quantity b) { return Quantity{a.value - b.value}; }
  friend constexpr Quantity operator*(Quantity a, double n) { return Quantity{a.value * n}; }
  friend constexpr Quantity operator*(double n, Quantity a) { return Quantity{a.value * n}; }
  friend constexpr Quantity operator/(Quantity a, double n) { return Quantity{a.value / n}; }
  friend constexpr double operator/(Quantity a, Quantity b) { return a.value / b.value; }
  constexpr Quantity& operator+=(Quantity b) { return *this = *this + b; }
  constexpr Quantity& operator-=(Quantity b) { return *this = *this - b; }
};

using Bytes = Quantity<struct ByteUnit>;
using Seconds = Quantity<struct SecondUnit>;
using Flops = Quantity<struct FlopUnit>;  // a count; one multiply-add is two
using FlopsPerSecond = Quantity<struct FlopPerSecondUnit>;
using BytesPerSecond = Quantity<struct BytePerSecondUnit>;

constexpr FlopsPerSecond operator/(Flops f, Seconds t) { return FlopsPerSecond{f.value / t.value}; }
constexpr BytesPerSecond operator/(Bytes b, Seconds t) { return BytesPerSecond{b.value / t.value}; }
constexpr Seconds operator/(Flops f, FlopsPerSecond rate) { return Seconds{f.value / rate.value}; }
constexpr Seconds operator/(Bytes b, BytesPerSecond rate) { return Seconds{b.value / rate.value}; }

constexpr FlopsPerSecond tflop_per_s(double n) { return FlopsPerSecond{n * 1e12}; }
constexpr BytesPerSecond gb_per_s(double n) { return BytesPerSecond{n * 1e9}; }
constexpr Bytes gib(double n) { return Bytes{n * 1073741824.0}; }

// "3.42 GiB", "812.0 MiB", "640 B": binary prefixes, four significant digits.
std::string to_string(Bytes bytes);
// "12.3 ms", "4.56 s", "3.2 days".
std::string to_string(Seconds seconds);

}  // namespace mmoe
