#include "train/data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

[[noreturn]] void fail_reading(const std::string& path) {
  throw ConfigError(path + ": cannot read (" + std::strerror(errno) + "); check the path and its permissions");
}

struct Descriptor {
  int number;
  ~Descriptor() { close(number); }
};

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const Descriptor file{open(path_.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.number < 0) fail_reading(path_);
  struct stat status = {};
  if (fstat(file.number, &status) != 0) fail_reading(path_);
  if (S_ISDIR(status.st_mode)) throw ConfigError(path_ + ": cannot read, this is a folder; name a file");
  if (S_ISREG(status.st_mode)) {
    size_ = static_cast<size_t>(status.st_size);
    if (size_ == 0) return;
    void* address = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.number, 0);
    if (address == MAP_FAILED) fail_reading(path_);
    mapped_ = address;
    return;
  }
  if (!S_ISFIFO(status.st_mode)) throw ConfigError(path_ + ": is neither a regular file nor a pipe; name a file");
  const auto block = std::make_unique<char[]>(1 << 20);
  for (;;) {
    const ssize_t count = ::read(file.number, block.get(), 1 << 20);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_reading(path_);
    if (count == 0) return;
    read_.append(block.get(), static_cast<size_t>(count));
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      read_(std::move(other.read_)),
      mapped_(std::exchange(other.mapped_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (mapped_) munmap(mapped_, size_);
}

}  // namespace mmoe
