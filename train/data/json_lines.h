#pragma once
// Documents from JSON Lines: one JSON object a line, the text under one of its keys.

#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// True for names that end in .jsonl or .ndjson.
bool is_json_lines(std::string_view path);

// The strings under `key`, line by line; blank lines are passed over, empty strings too. ConfigError naming the file
// and the line where a line is no JSON object, or has no string there.
std::vector<std::string> json_lines_documents(std::string_view bytes, const std::string& key, const std::string& path);

}  // namespace mmoe
