#pragma once
// Reading JSON that people write: errors name file, line and column; a key given twice is an error.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// Parses `text`; `where` (a file name) stands in front of messages. Throws ConfigError.
nlohmann::json parse_json(std::string_view text, const std::string& where);

// Reads and parses a file. Throws ConfigError, also for a missing file, a folder or one that cannot be read.
nlohmann::json read_json_file(const std::string& path);

// The value of every line of a JSON Lines file; messages name file and line ("metrics.jsonl:3"). `advice` ends the one
// of a file that cannot be read. Throws ConfigError.
std::vector<nlohmann::json> read_json_lines(const std::string& path, const std::string& advice);

// The value as it would stand in a file, cut after some sixty characters, for messages.
std::string shown(const nlohmann::json& value);

}  // namespace mmoe
