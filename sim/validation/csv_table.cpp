#include "sim/validation/csv_table.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Records of a CSV text with the line each starts on.
class CsvReader {
 public:
  CsvReader(const std::string& text, const std::string& where) : text_(text), where_(where) {}

  int64_t line() const { return start_; }
  // False at the end of the text. Empty lines are skipped.
  bool next(std::vector<std::string>& fields) {
    while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) line_ += text_[at_++] == '\n';
    if (at_ >= text_.size()) return false;
    start_ = line_;
    fields.clear();
    bool more = true;
    while (more) more = read_field(fields.emplace_back());
    return true;
  }

 private:
  // True where another field of the record follows.
  bool read_field(std::string& field) {
    if (at_ < text_.size() && text_[at_] == '"') {
      for (++at_;; ++at_) {
        if (at_ >= text_.size()) {
          throw ConfigError(where_ + ": line " + std::to_string(start_) +
                            ": a quoted field never ends; close it with \"");
        }
        if (text_[at_] == '"') {
          if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') break;
          ++at_;
        }
        line_ += text_[at_] == '\n';
        field += text_[at_];
      }
      ++at_;
    }
    while (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n') field += text_[at_++];
    if (!field.empty() && field.back() == '\r' && (at_ >= text_.size() || text_[at_] == '\n')) field.pop_back();
    if (at_ >= text_.size()) return false;
    line_ += text_[at_] == '\n';
    return text_[at_++] == ',';
  }

  const std::string& text_;
  const std::string& where_;
  std::size_t at_ = 0;
  int64_t line_ = 1, start_ = 1;
};

}  // namespace

const std::string& CsvRow::text(const std::string& column) const {
  static const std::string kEmpty;
  const std::optional<std::size_t> index = table_->column(column);
  return index ? fields_[*index] : kEmpty;
}

std::optional<double> CsvRow::number(const std::string& column) const {
  const std::string& field = text(column);
  char* end = nullptr;
  const double value = std::strtod(field.c_str(), &end);
  if (end == field.c_str() || !std::isfinite(value)) return std::nullopt;
  while (*end == ' ') ++end;
  if (*end != '\0' && *end != '(') return std::nullopt;
  return value;
}

std::optional<int64_t> CsvRow::integer(const std::string& column) const {
  const std::optional<double> value = number(column);
  if (!value || *value != std::floor(*value) || std::abs(*value) > 1e15) return std::nullopt;
  return static_cast<int64_t>(*value);
}

CsvTable::CsvTable(const std::string& text, std::string where) : where_(std::move(where)) {
  CsvReader reader(text, where_);
  std::vector<std::string> fields;
  if (!reader.next(fields)) throw ConfigError(where_ + ": is empty; its first line must name the columns");
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (!columns_.emplace(fields[i], i).second) {
      throw ConfigError(where_ + ": line 1: names the column \"" + fields[i] + "\" twice; keep one");
    }
  }
  while (reader.next(fields)) {
    if (fields.size() != columns_.size()) {
      throw ConfigError(where_ + ": line " + std::to_string(reader.line()) + ": has " + std::to_string(fields.size()) +
                        " fields, but line 1 names " + std::to_string(columns_.size()) + " columns");
    }
    rows_.emplace_back(*this, fields);
  }
}

CsvTable CsvTable::parse(const std::string& text, const std::string& where) { return CsvTable(text, where); }

CsvTable CsvTable::load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw ConfigError(path + ": cannot be read; --table takes a CSV file with the columns of the published tables");
  }
  return CsvTable(text.str(), path);
}

std::optional<std::size_t> CsvTable::column(const std::string& name) const {
  const auto found = columns_.find(name);
  if (found == columns_.end()) return std::nullopt;
  return found->second;
}

}  // namespace mmoe
