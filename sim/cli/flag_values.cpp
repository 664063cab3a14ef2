// Values that several commands take in the same way: byte counts and lists of numbers.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "sim/cli/flags.h"

namespace mmoe {
namespace {

// Reads a number at the start of `text`; returns the number of characters read, 0 for none.
std::size_t read_number(const std::string& text, double& number) {
  char* end = nullptr;
  number = std::strtod(text.c_str(), &end);
  return std::isfinite(number) ? static_cast<std::size_t>(end - text.c_str()) : 0;
}

}  // namespace

Bytes parse_bytes(const std::string& text, const std::string& flag) {
  struct Unit {
    const char* name;
    double bytes;
  };
  constexpr std::array<Unit, 10> kUnits = {{{"", 1},
                                            {"B", 1},
                                            {"kB", 1e3},
                                            {"MB", 1e6},
                                            {"GB", 1e9},
                                            {"TB", 1e12},
                                            {"KiB", 1024},
                                            {"MiB", 1048576},
                                            {"GiB", 1073741824},
                                            {"TiB", 1099511627776}}};
  double number = 0;
  const std::size_t read = read_number(text, number);
  const auto unit_at = text.find_first_not_of(' ', read);
  const std::string unit = read == 0 || unit_at == std::string::npos ? "" : text.substr(unit_at);
  for (const Unit& known : kUnits) {
    if (read > 0 && number > 0 && unit == known.name) return Bytes{number * known.bytes};
  }
  throw ConfigError("--" + flag + " = \"" + text +
                    "\" is no number of bytes; write it like 8589934592, 8GiB or 512MiB");
}

std::vector<double> parse_numbers(const std::string& text, const std::string& flag) {
  std::vector<double> numbers;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    double number = 0;
    if (item.empty() || read_number(item, number) != item.size()) {
      throw ConfigError("--" + flag + " = \"" + text + "\": \"" + item + "\" is no number; write a list like 1,2,6");
    }
    numbers.push_back(number);
    begin = end + 1;
  }
  return numbers;
}

}  // namespace mmoe
