#include "profiles/store/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;

class AtomicFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("atomic_file." + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const char* name) const { return (folder_ / name).string(); }
  static std::string content(const std::string& file) {
    std::ostringstream text;
    text << std::ifstream(file, std::ios::binary).rdbuf();
    return text.str();
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

TEST_F(AtomicFile, WritesAndReplaces) {
  const std::string file = path("a.json");
  write_file_atomically(file, "first");
  EXPECT_EQ(content(file), "first");
  write_file_atomically(file, std::string_view("second\0with zero", 16));
  EXPECT_EQ(content(file).size(), 16u);
  EXPECT_EQ(files(), 1u);  // nothing temporary stays
}

TEST_F(AtomicFile, KeepsPermissionsAndLinks) {
  const std::string file = path("a.json"), link = path("link.json");
  write_file_atomically(file, "first");
  fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink(file, link);
  write_file_atomically(link, "second");
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(content(file), "second");
  EXPECT_EQ(fs::status(file).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(AtomicFile, NamesAMissingFolder) {
  try {
    write_file_atomically(path("none/a.json"), "x");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("none/a.json: its folder does not exist"), std::string::npos);
  }
}

TEST_F(AtomicFile, RefusesAFolder) { EXPECT_THROW(write_file_atomically(folder_.string(), "x"), ConfigError); }

TEST_F(AtomicFile, WritesThroughADevice) {
  write_file_atomically("/dev/null", "x");
  struct stat status {};
  ASSERT_EQ(stat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
}

TEST_F(AtomicFile, FullDeviceThrowsSystemError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_THROW(write_file_atomically("/dev/full", "x"), std::system_error);
}

// A file that may not grow behaves as on a full disk: the earlier file stays whole and nothing temporary is left.
TEST_F(AtomicFile, EarlierFileSurvivesAFailedWrite) {
  const std::string file = path("a.json");
  write_file_atomically(file, "earlier");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW(write_file_atomically(file, std::string(100000, 'x')), std::system_error);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(content(file), "earlier");
  EXPECT_EQ(files(), 1u);
}

}  // namespace
}  // namespace mmoe
