#pragma once
// A table of measured runs as a CSV file (RFC 4180) whose first line names the columns.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mmoe {

class CsvTable;

// One line of a table. Columns that the table lacks read as empty.
class CsvRow {
 public:
  CsvRow(const CsvTable& table, std::vector<std::string> fields) : table_(&table), fields_(std::move(fields)) {}

  const std::string& text(const std::string& column) const;
  // The number that a field starts with, a remark in brackets after it left out ("51200 (unverified)"); none where the
  // field holds no number.
  std::optional<double> number(const std::string& column) const;
  std::optional<int64_t> integer(const std::string& column) const;

 private:
  const CsvTable* table_;
  std::vector<std::string> fields_;
};

class CsvTable {
 public:
  // Throws ConfigError naming file and line for what cannot be read.
  static CsvTable load(const std::string& path);
  static CsvTable parse(const std::string& text, const std::string& where);
  CsvTable(const CsvTable&) = delete;
  CsvTable(CsvTable&&) = delete;

  const std::vector<CsvRow>& rows() const { return rows_; }
  const std::string& where() const { return where_; }
  bool has_column(const std::string& name) const { return columns_.contains(name); }
  // Position of a column; none where the table lacks it.
  std::optional<std::size_t> column(const std::string& name) const;

 private:
  explicit CsvTable(const std::string& text, std::string where);
  std::string where_;
  std::map<std::string, std::size_t> columns_;
  std::vector<CsvRow> rows_;
};

}  // namespace mmoe
