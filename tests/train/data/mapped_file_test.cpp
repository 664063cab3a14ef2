#include "train/data/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

TEST(MappedFile, GivesTheBytes) {
  const TemporaryFolder folder;
  const std::string bytes("a\0b\xFF", 4);
  MappedFile file(folder.write("text", bytes));
  EXPECT_EQ(file.bytes(), bytes);
  const MappedFile moved(std::move(file));
  EXPECT_EQ(moved.bytes(), bytes);
  EXPECT_EQ(MappedFile(folder.write("empty", "")).bytes(), "");
}

TEST(MappedFile, ReadsAPipeToItsEnd) {
  const TemporaryFolder folder;
  const std::string bytes(3 << 20, 'p'), pipe = folder.file("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { folder.write("pipe", bytes); });
  const MappedFile file(pipe);
  writer.join();
  EXPECT_EQ(file.bytes(), bytes);
}

TEST(MappedFile, NamesWhatItCannotRead) {
  const TemporaryFolder folder;
  for (const std::string& path : {folder.file("missing"), folder.file(""), std::string("/dev/zero")}) {
    const std::string message = message_of<ConfigError>([&] { MappedFile file(path); });
    EXPECT_EQ(message.find(path), 0u) << message;
  }
}

}  // namespace
}  // namespace mmoe
