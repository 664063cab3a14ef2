#include "train/checkpoint/durable_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// Bytes are handed to the system in such pieces, and the disk writes one while the next is made, instead of all of them
// at commit().
constexpr std::size_t kPieceBytes = std::size_t{8} << 20;

// Makes pages of a mapped file present. write() would fault them in a few at a time and, since Linux 6.15, clear the
// rest of the page cache's large page each time. A hint: older systems do not know it, other memory is present already.
void map_in(const char* data, std::size_t bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<std::uintptr_t>(data), first = start / page * page;
  ::madvise(reinterpret_cast<void*>(first), start + bytes - first, MADV_POPULATE_READ);
}

// True where the path itself is at fault, not the disk or the machine.
bool is_users_mistake(int error) {
  return error == ENOENT || error == ENOTDIR || error == EACCES || error == EPERM || error == EROFS ||
         error == EISDIR || error == ENAMETOOLONG || error == ELOOP;
}

}  // namespace

DurableFile::DurableFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_) {
  temporary_ += '.' + std::to_string(::getpid()) + ".tmp";
  std::error_code ignored;
  if (std::filesystem::is_directory(path_, ignored)) {
    throw ConfigError(path_.string() + ": is a folder, so no file can be written there; name a file");
  }
  // What an earlier process of the same number left behind is overwritten.
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ >= 0) return;
  const int error = errno;
  if (is_users_mistake(error)) {
    throw ConfigError(path_.string() + ": cannot be created (" + std::strerror(error) +
                      "); name a file in a folder that exists and is writable");
  }
  fail(error);
}

DurableFile::~DurableFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void DurableFile::write(const void* data, std::size_t bytes) {
  MMOE_CHECK(descriptor_ >= 0) << path_ << " is committed";
  const char* rest = static_cast<const char*>(data);
  while (bytes > 0) {
    const std::size_t piece = std::min(bytes, kPieceBytes);
    map_in(rest, piece);
    const ssize_t written = ::write(descriptor_, rest, piece);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(errno);
    rest += written;
    bytes -= static_cast<std::size_t>(written);
    written_ += written;
    start_flush();
  }
}

void DurableFile::start_flush() {
  if (written_ - flushed_ < static_cast<off_t>(kPieceBytes)) return;
  // Only a hint: commit() waits for all bytes and reports what went wrong.
  ::sync_file_range(descriptor_, flushed_, written_ - flushed_, SYNC_FILE_RANGE_WRITE);
  flushed_ = written_;
}

void DurableFile::commit() {
  MMOE_CHECK(descriptor_ >= 0) << path_ << " is committed";
  if (::fsync(descriptor_) != 0) fail(errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0 && errno != EINTR) fail(errno);  // some network file systems report a failed write only here
  sync_to_disk(parent_folder(path_));
}

void DurableFile::fail(int error) const {
  throw std::system_error(error, std::generic_category(), "cannot write " + path_.string());
}

std::filesystem::path parent_folder(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

void sync_to_disk(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 && errno == EACCES) return;  // a folder that may be written but not listed cannot be flushed
  if (descriptor < 0) throw std::system_error(errno, std::generic_category(), "cannot open " + path.string());
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some file systems cannot flush a folder and say EINVAL: there is nothing more to do then.
  if (error != 0 && error != EINVAL) {
    throw std::system_error(error, std::generic_category(), "cannot flush " + path.string() + " to disk");
  }
}

}  // namespace mmoe
