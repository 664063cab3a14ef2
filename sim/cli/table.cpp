#include "sim/cli/table.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <ostream>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Terminal columns of UTF-8 text without wide characters.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// A number, alone or with one short unit: "12", "-3.5 %", "71.2 GiB".
bool looks_like_number(const std::string& text) {
  constexpr std::size_t kLongestUnit = 8;
  const std::size_t first = text.find_first_not_of("+-.");
  if (first == std::string::npos || std::isdigit(static_cast<unsigned char>(text[first])) == 0) return false;
  const std::size_t space = text.find(' ');
  return space == std::string::npos ||
         (text.find_first_of(" ,", space + 1) == std::string::npos && text.size() - space <= kLongestUnit);
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

template <class... Arguments>
std::string format(const char* pattern, Arguments... arguments) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), pattern, arguments...);
  return text.data();
}

}  // namespace

void Table::add(std::vector<std::string> row) {
  MMOE_CHECK(row.size() == header.size()) << "a row of " << row.size() << " cells for " << header.size() << " columns";
  rows.push_back(std::move(row));
}

void print_table(const Table& table, std::ostream& out, const std::string& indent) {
  const std::size_t columns = table.header.size();
  std::vector<std::size_t> widths(columns);
  std::vector<bool> right(columns, !table.rows.empty());
  for (std::size_t c = 0; c < columns; ++c) {
    widths[c] = width(table.header[c]);
    for (const auto& row : table.rows) {
      widths[c] = std::max(widths[c], width(row[c]));
      right[c] = right[c] && (looks_like_number(row[c]) || row[c].empty() || row[c] == "-");
    }
  }
  const auto print = [&](const std::vector<std::string>& row) {
    std::string line = indent;
    for (std::size_t c = 0; c < columns; ++c) {
      const std::string space(widths[c] - width(row[c]), ' ');
      line += (c == 0 ? "" : "  ") + (right[c] ? space + row[c] : row[c] + space);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << '\n';
  };
  if (std::any_of(table.header.begin(), table.header.end(), [](const auto& cell) { return !cell.empty(); })) {
    print(table.header);
  }
  for (const auto& row : table.rows) print(row);
}

void print_csv(const Table& table, std::ostream& out) {
  const auto print = [&](const std::vector<std::string>& row) {
    for (std::size_t c = 0; c < row.size(); ++c) out << (c == 0 ? "" : ",") << csv_cell(row[c]);
    out << '\n';
  };
  print(table.header);
  for (const auto& row : table.rows) print(row);
}

std::string in_gib(double bytes, int decimals) { return format("%.*f", decimals, bytes / 1073741824.0); }

int gib_decimals(double largest_bytes) {
  const double gib = largest_bytes / 1073741824.0;
  return gib > 0 ? std::clamp(3 - static_cast<int>(std::floor(std::log10(gib))), 2, 9) : 2;
}

std::string percent(double fraction) { return format("%.1f %%", fraction * 100); }

std::string significant(double value, int digits) {
  if (value == 0 || !std::isfinite(value)) return format("%g", value);
  const int decimals = std::clamp(digits - 1 - static_cast<int>(std::floor(std::log10(std::fabs(value)))), 0, 12);
  return format("%.*f", decimals, value);
}

}  // namespace mmoe
