#pragma once
// Text as one word of a shell's command line.

#include <string>

namespace mmoe {

// In single quotes unless it is plain: "4", "'[\"moe\"]'", "'it'\''s'".
std::string shell_word(const std::string& text);

}  // namespace mmoe
