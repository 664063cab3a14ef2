#pragma once
// Typed access to one object of a job file (or of another JSON file that people write). It knows which keys were
// asked for, so that what is left over is an unknown key, and its errors name file and dotted key.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "sim/config/enum_names.h"
#include "sim/config/json_text.h"
#include "sim/units/errors.h"

namespace mmoe {

class JsonReader {
 public:
  // `path` is the dotted name of `object` in the file ("" for the whole); both must outlive the reader, as must
  // `given`, which may be null: the dotted keys that are set to a value, over all objects of a file. Throws ConfigError
  // when `object` is no object.
  JsonReader(const nlohmann::json& object, std::string where, std::string path, std::set<std::string>* given);

  // The value of a key, or null where it is missing. The key counts as known.
  const nlohmann::json* find(const std::string& key);
  // As find, but a missing key is an error that ends in `advice`.
  const nlohmann::json& require(const std::string& key, const std::string& advice);

  // Each sets `value` if the key is there and not "auto"; wrong types and values outside the range are errors.
  void read(const std::string& key, int64_t& value, int64_t least, int64_t most);
  void read(const std::string& key, uint64_t& value);
  void read(const std::string& key, double& value, double least, double most);
  void read(const std::string& key, bool& value);
  void read(const std::string& key, std::string& value);
  void read(const std::string& key, std::vector<int64_t>& value);
  void read(const std::string& key, std::vector<double>& value);
  // One string counts as a list of one.
  void read(const std::string& key, std::vector<std::string>& value);
  template <class E>
  void read_enum(const std::string& key, E& value) {
    std::vector<std::string> words;
    for (const auto& entry : enum_names<E>()) words.emplace_back(entry.name);
    const int index = read_word(key, words);
    if (index >= 0) value = enum_names<E>()[static_cast<std::size_t>(index)].value;
  }

  // A reader of the object under `key`; an empty object where it is missing.
  JsonReader child(const std::string& key);

  // Throws for the first key that nobody asked for, with the nearest known one.
  void finish() const;

  // Throws "where: path.key = value WHAT".
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

  std::string dotted(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* value_of(const std::string& key);  // find, less "auto"
  int read_word(const std::string& key, const std::vector<std::string>& words);

  const nlohmann::json& object_;
  std::string where_;
  std::string path_;
  std::set<std::string>* given_;
  std::set<std::string> known_;
};

}  // namespace mmoe
