#pragma once
// Cutting text into documents.

#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// The documents of `text`, views into it, in order; put together they are `text` again. A document ends behind a run of
// separators, at the end of `text`, and nowhere else; separators at the very start belong to the first document.
std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator);

// Reads \n \r \t \0 \\ and \xHH in a flag. ConfigError on anything else behind a backslash, and on an empty separator.
std::string parse_separator(std::string_view flag);

// `text` with control bytes, backslashes and all that is no ASCII in the notation of parse_separator.
std::string escape_text(std::string_view text);

}  // namespace mmoe
