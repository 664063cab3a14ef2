#pragma once
// Checked reading of one JSON object: every error is one line naming the file and the dotted key.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace mmoe {

// The JSON in a file; throws ConfigError when it is missing, unreadable or no JSON (with line and column).
nlohmann::json json_from_file(const std::string& path);

// Reads the fields of one object by type and, in `finish`, refuses the ones that nobody asked for.
class JsonFields {
 public:
  // `where` names the file, `key` the object inside it ("operations[3]"; empty: the whole file).
  JsonFields(const nlohmann::json& object, std::string where, std::string key);

  bool has(const std::string& name) const { return object_.contains(name); }
  double number(const std::string& name, double low, double high);  // finite, low <= value <= high
  int64_t integer(const std::string& name, int64_t low, int64_t high);
  bool boolean(const std::string& name);
  std::string text(const std::string& name);
  const nlohmann::json& array(const std::string& name);
  const nlohmann::json& object(const std::string& name);

  // Throws ConfigError at the first key that was not read.
  void finish() const;

  // The dotted name of a field, and an error about it.
  std::string key_of(const std::string& name) const;
  [[noreturn]] void fail(const std::string& name, const std::string& what) const;

  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& get(const std::string& name);

  const nlohmann::json& object_;
  std::string where_;
  std::string key_;
  std::set<std::string> read_;
};

}  // namespace mmoe
