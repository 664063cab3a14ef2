#pragma once
// Files that are either whole or absent: written beside the target, flushed to disk, then renamed over it.

#include <string>
#include <string_view>

namespace mmoe {

// Replaces the file at `path` by `text`; after an error or a crash the earlier file is still whole.
// Throws std::system_error (naming the path) when the file cannot be written, for example on a full disk.
void write_file_atomically(const std::string& path, std::string_view text);

}  // namespace mmoe
