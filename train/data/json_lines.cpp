#include "train/data/json_lines.h"

#include <nlohmann/json.hpp>

#include "sim/units/errors.h"

namespace mmoe {

bool is_json_lines(std::string_view path) { return path.ends_with(".jsonl") || path.ends_with(".ndjson"); }

std::vector<std::string> json_lines_documents(std::string_view bytes, const std::string& key, const std::string& path) {
  std::vector<std::string> documents;
  int64_t number = 0;
  while (!bytes.empty()) {
    const std::string_view line = bytes.substr(0, bytes.find('\n'));
    bytes.remove_prefix(std::min(bytes.size(), line.size() + 1));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const std::string where = path + ":" + std::to_string(number) + ": ";
    if (!json.is_object()) throw ConfigError(where + "is no JSON object; every line of such a file must be one");
    const auto found = json.find(key);
    if (found == json.end() || !found->is_string()) {
      throw ConfigError(where + "has no text under \"" + key + "\"; name the key that holds it with --json-key");
    }
    if (!found->get_ref<const std::string&>().empty()) documents.push_back(found->get<std::string>());
  }
  return documents;
}

}  // namespace mmoe
