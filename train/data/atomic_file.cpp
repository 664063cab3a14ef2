#include "train/data/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr size_t kBufferSize = 1 << 20;

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(path_ + ".tmp" + std::to_string(getpid())) {
  struct stat status = {};
  if (path_.empty()) throw ConfigError("cannot write a file with an empty name; name a file");
  if (stat(path_.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    throw ConfigError(path_ + ": cannot write, this is a folder; choose another name");
  }
  descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ >= 0) return;
  if (errno == ENOSPC || errno == EDQUOT || errno == EMFILE || errno == ENFILE || errno == EIO) fail("creating");
  throw ConfigError(path_ + ": cannot write in folder " + folder_of(path_) + " (" + std::strerror(errno) +
                    "); create the folder or choose another one");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* doing) const {
  throw std::system_error(errno, std::generic_category(), std::string(doing) + " " + path_);
}

void AtomicFile::write_through(const char* data, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("writing");
    data += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::flush() {
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void AtomicFile::write(const void* data, size_t size) {
  MMOE_CHECK(descriptor_ >= 0) << path_ << " is already synced";
  if (buffer_.size() + size > kBufferSize) flush();
  if (size > kBufferSize) {
    write_through(static_cast<const char*>(data), size);
  } else {
    buffer_.append(static_cast<const char*>(data), size);
  }
}

void AtomicFile::sync() {
  if (descriptor_ < 0) return;
  flush();
  if (fsync(descriptor_) != 0) fail("writing");
  const int closed = close(std::exchange(descriptor_, -1));
  if (closed != 0) fail("writing");
}

void AtomicFile::publish() {
  sync();
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("renaming to");
  temporary_.clear();
  // The rename itself reaches the disk with the folder; not every file system allows that, and the file is whole
  // anyway.
  const int folder = open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  fsync(folder);
  close(folder);
}

}  // namespace mmoe
