#include "train/checkpoint/durable_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <stdexcept>
#include <system_error>

#include "tests/train/checkpoint/checkpoint_testing.h"

namespace mmoe {
namespace {

using DurableFileTest = FolderTest;

TEST_F(DurableFileTest, AppearsAtCommitOnly) {
  const std::filesystem::path path = write("x", "old");
  DurableFile file(path);
  file.write("new ", 4);
  file.write(nullptr, 0);
  file.write("text", 4);
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_EQ(listing().size(), 2u);
  file.commit();
  EXPECT_EQ(read_bytes(path), "new text");
  EXPECT_EQ(listing(), std::vector<std::string>{"x"});
  EXPECT_THROW(file.write("x", 1), std::logic_error);
  EXPECT_THROW(file.commit(), std::logic_error);
}

TEST_F(DurableFileTest, LeavesTheEarlierFileWhenNotCommitted) {
  const std::filesystem::path path = write("x", "old");
  { DurableFile(path).write("new", 3); }
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_EQ(listing(), std::vector<std::string>{"x"});
}

TEST_F(DurableFileTest, HasThePermissionsOfAnyNewFile) {
  const mode_t mask = ::umask(027);
  DurableFile(folder_ / "x").commit();
  ::umask(mask);
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "x").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST_F(DurableFileTest, RefusesWrongPathsByName) {
  write("file", "");
  const auto error = [&](const char* name) { return config_error([&] { DurableFile file(folder_ / name); }); };
  EXPECT_NE(error("none/x").find("none/x: cannot be created (No such file or directory)"), std::string::npos);
  EXPECT_NE(error("file/x").find("file/x: cannot be created (Not a directory)"), std::string::npos);
  EXPECT_NE(error(".").find("is a folder"), std::string::npos);
}

TEST_F(DurableFileTest, SyncNamesWhatIsMissing) {
  sync_to_disk(folder_);
  sync_to_disk(write("x", "text"));
  try {
    sync_to_disk(folder_ / "none");
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_NE(std::string(error.what()).find((folder_ / "none").string()), std::string::npos);
  }
}

TEST_F(DurableFileTest, ParentFolder) {
  EXPECT_EQ(parent_folder("x"), ".");
  EXPECT_EQ(parent_folder("a/x"), "a");
  EXPECT_EQ(parent_folder("/x"), "/");
}

}  // namespace
}  // namespace mmoe
