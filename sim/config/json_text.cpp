#include "sim/config/json_text.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// "3:14" for the byte at `offset` (from 1, as nlohmann::json counts).
std::string line_and_column(std::string_view text, std::size_t offset) {
  std::size_t line = 1, column = 1;
  for (std::size_t i = 0; i + 1 < offset && i < text.size(); ++i) {
    column = text[i] == '\n' ? 1 : column + 1;
    line += text[i] == '\n' ? 1 : 0;
  }
  return std::to_string(line) + ":" + std::to_string(column);
}

// nlohmann's own text ("[json.exception...] parse error at line 3, column 5: syntax error while parsing object key -
// unexpected '}'; expected string literal") from the last " - " on, or all after the position.
std::string cause(const std::string& text) {
  const auto dash = text.rfind(" - ");
  if (dash != std::string::npos) return text.substr(dash + 3);
  const auto colon = text.find(": ");
  return colon == std::string::npos ? text : text.substr(colon + 2);
}

// Follows the parser through objects and remembers their keys.
class DuplicateKeys {
 public:
  explicit DuplicateKeys(const std::string& where) : where_(where) {}

  bool operator()(int, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) {
      objects_.push_back({});
    } else if (event == Event::object_end) {
      objects_.pop_back();
    } else if (event == Event::key) {
      objects_.back().current = parsed.get<std::string>();
      if (!objects_.back().keys.insert(objects_.back().current).second) {
        std::string path;
        for (const Object& object : objects_) path += (path.empty() ? "" : ".") + object.current;
        throw ConfigError(where_ + ": " + path + " is given twice; keep one of them");
      }
    }
    return true;
  }

 private:
  struct Object {
    std::set<std::string> keys;
    std::string current;
  };
  const std::string& where_;
  std::vector<Object> objects_;
};

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& where) {
  DuplicateKeys duplicates(where);
  const auto callback = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    return duplicates(depth, event, parsed);
  };
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    throw ConfigError(where + " is empty; it must hold one JSON object");
  }
  try {
    return nlohmann::json::parse(text.begin(), text.end(), callback);
  } catch (const nlohmann::json::parse_error& error) {
    throw ConfigError(where + ":" + line_and_column(text, error.byte) + ": no valid JSON: " + cause(error.what()));
  } catch (const nlohmann::json::exception& error) {
    throw ConfigError(where + ": no valid JSON: " + cause(error.what()));
  }
}

nlohmann::json read_json_file(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) throw ConfigError(path + " is a folder; give the JSON file in it");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || file.bad()) {
    throw ConfigError(path + " cannot be read (" + std::strerror(errno == 0 ? EIO : errno) + "); check the path");
  }
  return parse_json(text.str(), path);
}

std::vector<nlohmann::json> read_json_lines(const std::string& path, const std::string& advice) {
  std::ifstream file(path);
  if (!file) throw ConfigError(path + ": cannot be read; " + advice);
  std::vector<nlohmann::json> values;
  for (std::string line; std::getline(file, line);) {
    values.push_back(parse_json(line, path + ":" + std::to_string(values.size() + 1)));
  }
  return values;
}

std::string shown(const nlohmann::json& value) {
  constexpr std::size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

}  // namespace mmoe
