#include "train/loop/event_file.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace mmoe {
namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
    table[byte] = crc;
  }
  return table;
}();

// As TFRecords store a checksum, so that a checksum of data that holds checksums stays sound.
uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8U; }

template <class Unsigned>
void append_little_endian(std::string& out, Unsigned value) {
  for (size_t i = 0; i < sizeof value; ++i) out += static_cast<char>((value >> (8 * i)) & 0xFF);
}

// Protocol buffers' wire format (protobuf.dev/programming-guides/encoding).
enum class WireType : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  out += static_cast<char>(value);
}

void append_tag(std::string& out, uint64_t field, WireType type) {
  append_varint(out, field << 3 | static_cast<uint64_t>(type));
}

void append_bytes(std::string& out, uint64_t field, std::string_view bytes) {
  append_tag(out, field, WireType::kBytes);
  append_varint(out, bytes.size());
  out += bytes;
}

// Event: double wall_time = 1; int64 step = 2.
std::string event_at(int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  std::string event;
  append_tag(event, 1, WireType::kFixed64);
  append_little_endian(event, std::bit_cast<uint64_t>(now.count()));
  append_tag(event, 2, WireType::kVarint);
  append_varint(event, static_cast<uint64_t>(step));
  return event;
}

// Seconds since 1970 for a new file's name: TensorBoard reads the files of a folder in the order of their names.
int64_t time_behind(const std::filesystem::path& folder) {
  int64_t time =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    time = std::max<int64_t>(time, std::strtoll(name.c_str() + kPrefix.size(), nullptr, 10) + 1);
  }
  return time;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0U;
  for (const char byte : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  return ~crc;
}

EventFile::EventFile(const std::filesystem::path& folder, int64_t first_step) {
  std::filesystem::create_directories(folder);
  char name[128], host[256] = {};
  gethostname(host, sizeof host - 1);
  std::snprintf(name, sizeof name, "%s%010ld.%.64s.%ld", kPrefix.data(), static_cast<long>(time_behind(folder)), host,
                static_cast<long>(getpid()));
  path_ = folder / name;
  file_.open(path_, std::ios::binary);
  std::string version = event_at(0);
  append_bytes(version, 3, "brain.Event:2");  // file_version = 3
  write_record(version);
  // SessionLog session_log = 7, with status = 1 START = 1: purges earlier events of this step and later ones.
  std::string restart = event_at(first_step);
  append_bytes(restart, 7, "\x08\x01");
  write_record(restart);
}

void EventFile::add(int64_t step, std::span<const Scalar> scalars) {
  // Event: Summary summary = 5; Summary: repeated Value value = 1; Value: string tag = 1, float simple_value = 2.
  std::string summary;
  for (const Scalar& scalar : scalars) {
    std::string value;
    append_bytes(value, 1, scalar.tag);
    append_tag(value, 2, WireType::kFixed32);
    append_little_endian(value, std::bit_cast<uint32_t>(static_cast<float>(scalar.value)));
    append_bytes(summary, 1, value);
  }
  std::string event = event_at(step);
  append_bytes(event, 5, summary);
  write_record(event);
}

void EventFile::write_record(std::string_view event) {
  std::string record;
  append_little_endian(record, static_cast<uint64_t>(event.size()));
  append_little_endian(record, masked_crc32c(record));
  record += event;
  append_little_endian(record, masked_crc32c(event));
  errno = 0;
  file_ << record << std::flush;
  if (!file_) throw std::system_error(errno, std::generic_category(), path_.string());
}

}  // namespace mmoe
