#include "profiles/store/json_fields.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

std::string short_text(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 37) + "...";
  return text;
}

std::string number_text(double value) {
  std::ostringstream text;
  text.precision(15);
  text << value;
  return text.str();
}

std::string line_and_column(const std::string& text, size_t byte) {
  size_t line = 1, column = 1;
  for (size_t i = 0; i + 1 < byte && i < text.size(); ++i) {
    if (text[i] == '\n') {
      ++line;
      column = 1;
    } else {
      ++column;
    }
  }
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

}  // namespace

nlohmann::json json_from_file(const std::string& path) {
  if (std::error_code error; std::filesystem::is_directory(path, error)) {
    throw ConfigError(path + ": is a folder; give the path of a file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError(path + ": cannot be read: " + std::strerror(errno) + "; check the path");
  std::ostringstream buffer;
  buffer << file.rdbuf();
  const std::string text = buffer.str();
  if (text.empty()) throw ConfigError(path + ": is empty; it must hold a JSON object");
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    throw ConfigError(path + ": is not valid JSON at " + line_and_column(text, error.byte) +
                      "; it may be cut short: write it again");
  } catch (const nlohmann::json::exception&) {
    throw ConfigError(path + ": holds a number that is too large to read; write it again");
  }
}

JsonFields::JsonFields(const nlohmann::json& object, std::string where, std::string key)
    : object_(object), where_(std::move(where)), key_(std::move(key)) {
  if (!object_.is_object()) {
    throw ConfigError(where_ + ": " + (key_.empty() ? "the file" : key_) + " must be an object, not " +
                      short_text(object_));
  }
}

std::string JsonFields::key_of(const std::string& name) const { return key_.empty() ? name : key_ + "." + name; }

void JsonFields::fail(const std::string& name, const std::string& what) const {
  throw ConfigError(where_ + ": " + key_of(name) + " " + what);
}

const nlohmann::json& JsonFields::get(const std::string& name) {
  const auto found = object_.find(name);
  if (found == object_.end()) fail(name, "is missing");
  read_.insert(name);
  return *found;
}

double JsonFields::number(const std::string& name, double low, double high) {
  const nlohmann::json& value = get(name);
  if (!value.is_number()) fail(name, "must be a number, not " + short_text(value));
  const double result = value.get<double>();
  if (!std::isfinite(result) || result < low || result > high) {
    fail(name, "= " + number_text(result) + " is outside " + number_text(low) + " .. " + number_text(high));
  }
  return result;
}

int64_t JsonFields::integer(const std::string& name, int64_t low, int64_t high) {
  const nlohmann::json& value = get(name);
  if (!value.is_number_integer()) fail(name, "must be a whole number, not " + short_text(value));
  const bool above = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (above || value.get<int64_t>() < low || value.get<int64_t>() > high) {
    fail(name, "= " + short_text(value) + " is outside " + std::to_string(low) + " .. " + std::to_string(high));
  }
  return value.get<int64_t>();
}

bool JsonFields::boolean(const std::string& name) {
  const nlohmann::json& value = get(name);
  if (!value.is_boolean()) fail(name, "must be true or false, not " + short_text(value));
  return value.get<bool>();
}

std::string JsonFields::text(const std::string& name) {
  const nlohmann::json& value = get(name);
  if (!value.is_string()) fail(name, "must be a text, not " + short_text(value));
  return value.get<std::string>();
}

const nlohmann::json& JsonFields::array(const std::string& name) {
  const nlohmann::json& value = get(name);
  if (!value.is_array()) fail(name, "must be a list, not " + short_text(value));
  return value;
}

const nlohmann::json& JsonFields::object(const std::string& name) {
  const nlohmann::json& value = get(name);
  if (!value.is_object()) fail(name, "must be an object, not " + short_text(value));
  return value;
}

void JsonFields::finish() const {
  for (const auto& item : object_.items()) {
    if (!read_.contains(item.key())) fail(item.key(), "is not a key of this file; remove it");
  }
}

}  // namespace mmoe
