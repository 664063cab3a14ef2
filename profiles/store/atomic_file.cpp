#include "profiles/store/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// What the user can put right (a wrong path) is a ConfigError; a full or broken disk is not.
[[noreturn]] void fail(int error, const std::string& path) {
  if (error == ENOENT || error == ENOTDIR) {
    throw ConfigError(path + ": its folder does not exist; create it or give another path");
  }
  if (error == EACCES || error == EPERM || error == EROFS) {
    throw ConfigError(path + ": no permission to write there; give another path");
  }
  if (error == EISDIR) throw ConfigError(path + ": is a folder; give the path of a file");
  throw std::system_error(error, std::generic_category(), "cannot write " + path);
}

// Returns 0 or the error number.
int write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

// A device or a pipe (`/dev/stdout`) cannot be replaced: it is written to.
void write_through(const std::string& path, std::string_view text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) fail(errno, path);
  const int error = write_all(file, text);
  ::close(file);
  if (error != 0) fail(error, path);
}

// The file that `path` leads to, links followed, so that a link stays a link.
std::string link_target(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return path;
  std::string target = resolved;
  std::free(resolved);
  return target;
}

}  // namespace

void write_file_atomically(const std::string& path, std::string_view text) {
  struct stat before {};
  const bool exists = ::stat(path.c_str(), &before) == 0;
  if (exists && S_ISDIR(before.st_mode)) fail(EISDIR, path);
  if (exists && !S_ISREG(before.st_mode)) return write_through(path, text);

  static std::atomic<unsigned> counter{0};
  const std::string target = link_target(path);
  const std::string temporary = target + ".tmp." + std::to_string(::getpid()) + "." + std::to_string(counter++);
  const int file = ::open(temporary.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
  if (file < 0) fail(errno, path);
  int error = write_all(file, text);
  if (error == 0 && exists && ::fchmod(file, before.st_mode & 07777) != 0) error = errno;
  if (error == 0 && ::fsync(file) != 0) error = errno;
  if (::close(file) != 0 && error == 0) error = errno;
  if (error == 0 && ::rename(temporary.c_str(), target.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(temporary.c_str());
    fail(error, path);
  }
  // The rename itself must reach the disk; a file system that cannot flush a folder has done what it can.
  const std::string folder = std::filesystem::path(target).parent_path().string();
  const int folder_file = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_file >= 0) {
    ::fsync(folder_file);
    ::close(folder_file);
  }
}

}  // namespace mmoe
