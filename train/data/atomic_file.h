#pragma once
// Files that appear whole or not at all: written under a temporary name beside the target, synced, then renamed.

#include <cstddef>
#include <string>
#include <string_view>

namespace mmoe {

// Writing failures (a full disk, a quota) throw std::system_error naming the path; the target is then as it was.
class AtomicFile {
 public:
  // Creates the temporary file. ConfigError when the folder is missing or not writable or `path` is a folder.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends; buffered.
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Puts everything on the disk. Several files that belong together sync all before the first publishes.
  void sync();
  // Renames to the final name; syncs first when that was not done.
  void publish();

  const std::string& path() const { return path_; }

 private:
  void flush();
  void write_through(const char* data, size_t size);
  [[noreturn]] void fail(const char* doing) const;

  std::string path_, temporary_, buffer_;
  int descriptor_ = -1;
};

}  // namespace mmoe
