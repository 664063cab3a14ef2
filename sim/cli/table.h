#pragma once
// Plain tables for the screen and as CSV.

#include <iosfwd>
#include <string>
#include <vector>

namespace mmoe {

// Rows of equal length under a header; numbers (cells that start with a digit, sign or point) are set to the right.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;

  void add(std::vector<std::string> row);  // must have as many cells as the header
};

// Columns two spaces apart, each line after `indent`.
void print_table(const Table& table, std::ostream& out, const std::string& indent = "");

// Comma-separated with a header line; cells with commas, quotes or line ends are quoted (RFC 4180).
void print_csv(const Table& table, std::ostream& out);

// Memory on screen is in GiB: "71.20". gib_decimals gives the largest of a table's numbers four digits, at least two
// decimals.
std::string in_gib(double bytes, int decimals = 2);
int gib_decimals(double largest_bytes);
// "12.3 %"; a number with `digits` significant digits.
std::string percent(double fraction);
std::string significant(double value, int digits);

}  // namespace mmoe
