#pragma once
// A file's bytes, read-only.

#include <string>
#include <string_view>

namespace mmoe {

// Maps a regular file; reads a pipe to its end. ConfigError when it cannot be read.
class MappedFile {
 public:
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  std::string_view bytes() const { return mapped_ ? std::string_view(static_cast<char*>(mapped_), size_) : read_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_, read_;
  void* mapped_ = nullptr;
  size_t size_ = 0;
};

}  // namespace mmoe
