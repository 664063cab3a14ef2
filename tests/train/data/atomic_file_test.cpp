#include "train/data/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <system_error>

#include "sim/units/errors.h"
#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

TEST(AtomicFile, AppearsOnlyWhenPublished) {
  const TemporaryFolder folder;
  folder.write("out", "earlier");
  const std::string large(3 << 20, 'x');  // more than the buffer
  {
    AtomicFile file(folder.file("out"));
    file.write("a");
    file.write(large);
    file.sync();
    EXPECT_EQ(folder.read("out"), "earlier");
    file.publish();
  }
  EXPECT_EQ(folder.read("out"), "a" + large);
  EXPECT_EQ(folder.names(), std::set<std::string>{"out"});
}

TEST(AtomicFile, LeavesNothingBehindWhenNotPublished) {
  const TemporaryFolder folder;
  folder.write("out", "earlier");
  {
    AtomicFile file(folder.file("out"));
    file.write("half");
    file.sync();
  }
  EXPECT_EQ(folder.read("out"), "earlier");
  EXPECT_EQ(folder.names(), std::set<std::string>{"out"});
}

TEST(AtomicFile, AFolderThatCannotBeWrittenIsTheUsersMistake) {
  const TemporaryFolder folder;
  const std::string missing = message_of<ConfigError>([&] { AtomicFile(folder.file("no/out")); });
  EXPECT_NE(missing.find(folder.file("no")), std::string::npos) << missing;
  const std::string is_folder = message_of<ConfigError>([&] { AtomicFile(folder.file("")); });
  EXPECT_NE(is_folder.find("folder"), std::string::npos) << is_folder;
}

// A limit on file sizes stands for a full disk: write() fails part of the way.
TEST(AtomicFile, AWriteThatFailsIsASystemErrorAndKeepsTheEarlierFile) {
  const TemporaryFolder folder;
  folder.write("out", "earlier");
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {1 << 20, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = message_of<std::system_error>([&] {
    AtomicFile file(folder.file("out"));
    file.write(std::string(2 << 20, 'x'));
    file.publish();
  });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find(folder.file("out")), std::string::npos) << message;
  EXPECT_EQ(folder.read("out"), "earlier");
  EXPECT_EQ(folder.names(), std::set<std::string>{"out"});
}

}  // namespace
}  // namespace mmoe
