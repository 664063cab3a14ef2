#include "train/loop/event_file.h"

#include <gtest/gtest.h>

#include "tests/train/data/temporary_folder.h"

namespace mmoe {
namespace {

// RFC 3720, appendix B.4, and the check value of the Rocksoft catalogue.
TEST(Crc32c, PublishedValues) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  std::string ascending;
  for (char byte = 0; byte < 32; ++byte) ascending += byte;
  EXPECT_EQ(crc32c(ascending), 0x46DD794EU);
  EXPECT_EQ(crc32c(std::string(ascending.rbegin(), ascending.rend())), 0x113FDB5CU);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

// An event by hand: the step and one scalar, byte by byte but for the time. watch_cli_test.py reads whole files.
TEST(EventFile, WritesRecordsOfEvents) {
  const TemporaryFolder folder;
  {
    EventFile file(folder.file("logs"), 1);
    const Scalar scalar{"a/b", 1.5};
    file.add(300, {&scalar, 1});
  }
  const auto entry = *std::filesystem::directory_iterator(folder.file("logs"));
  const std::string bytes = folder.read("logs/" + entry.path().filename().string());
  const std::string tail(
      "\x10\xAC\x02"  // step = 300
      "\x2A\x0C"      // summary, 12 bytes
      "\x0A\x0A"      // value, 10 bytes
      "\x0A\x03"
      "a/b"               // tag
      "\x15\0\0\xC0\x3F"  // simple_value = 1.5
      ,
      17);
  const size_t payload = 9 + tail.size(), record = 8 + 4 + payload + 4;  // 9: the time
  ASSERT_GT(bytes.size(), record);
  const std::string last = bytes.substr(bytes.size() - record);
  EXPECT_EQ(last.substr(0, 8), std::string("\x1A\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(last[12], '\x09');  // wall_time, 64 bits
  EXPECT_EQ(last.substr(12 + 9, tail.size()), tail);
}

TEST(EventFile, ALaterFileSortsBehindEarlierOnes) {
  const TemporaryFolder folder;
  std::set<std::string> before;
  for (int i = 0; i < 3; ++i) {
    const EventFile file(folder.file("logs"), 1);
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder.file("logs"))) {
      names.insert(entry.path().filename().string());
    }
    ASSERT_EQ(names.size(), before.size() + 1);
    EXPECT_EQ(before.count(*names.rbegin()), 0U) << "the new name is the last";
    before = names;
  }
}

}  // namespace
}  // namespace mmoe
