#pragma once
// "Did you mean": the known word nearest to a mistyped one.

#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
int edit_distance(std::string_view a, std::string_view b);

// The candidate with the least edit distance, if that is at most a third of the word's length (at least 2); else the
// first that holds the word; else empty.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// "a, b, c": for lists of what is possible.
std::string join(const std::vector<std::string>& words, std::string_view separator = ", ");

}  // namespace mmoe
