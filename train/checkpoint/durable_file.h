#pragma once
// Large files written piece by piece that are either whole on disk or absent, as after profiles/store/atomic_file.h for
// text.

#include <sys/types.h>

#include <cstddef>
#include <filesystem>

namespace mmoe {

// A file that appears under `path` at commit(), never before. Until then its bytes are in a temporary file beside it,
// which the destructor removes. An earlier file at `path` stays whole until commit() replaces it.
class DurableFile {
 public:
  // Throws ConfigError when `path` cannot be a file that we may create, std::system_error on other failures.
  explicit DurableFile(std::filesystem::path path);
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;
  ~DurableFile();

  // Appends. Throws std::system_error naming the path, for example on a full disk.
  void write(const void* data, std::size_t bytes);
  // Flushes to disk, renames, flushes the folder; the file is then closed. Throws std::system_error naming the path.
  void commit();

 private:
  [[noreturn]] void fail(int error) const;
  void start_flush();

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  off_t written_ = 0, flushed_ = 0;  // bytes: handed to the system; on their way to the disk
};

// The folder that holds `path`: "." for a bare name.
std::filesystem::path parent_folder(const std::filesystem::path& path);

// Flushes a file's bytes, or a folder's list of names, to disk. Throws std::system_error naming the path.
void sync_to_disk(const std::filesystem::path& path);

}  // namespace mmoe
