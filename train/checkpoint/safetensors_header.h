#pragma once
// The JSON header of a safetensors file: checked reading, and writing as the reference implementation does.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// Element types, in the order of the reference implementation: files are sorted by it, last first.
enum class SafetensorsDtype {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64
};

// "BF16", as it stands in the header.
std::string_view dtype_name(SafetensorsDtype dtype);
std::optional<SafetensorsDtype> dtype_from_name(std::string_view name);
// Bytes an element.
std::int64_t dtype_bytes(SafetensorsDtype dtype);

// Bytes of a tensor; nothing when a dimension is negative or the count of bytes passes 2^63 - 1.
std::optional<std::int64_t> tensor_bytes(SafetensorsDtype dtype, const std::vector<std::int64_t>& shape);

// Where one tensor lies: bytes [begin, end) of the data behind the header.
struct SafetensorsEntry {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0, end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
};

inline constexpr std::uint64_t kSafetensorsLengthBytes = 8;  // the header's length, little-endian, comes first
inline constexpr std::uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
inline constexpr std::size_t kSafetensorsMaxDimensions = 64;              // LibTorch's limit

// Parses `json` and checks all of it: types, sizes, no overlap, no gap, and the last tensor ends where the file of
// `file_bytes` bytes ends. Throws ConfigError (one line) naming `file`, the tensor and what is wrong.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t file_bytes, const std::string& file);

// The header's JSON, compact, padded with spaces to a multiple of 8 bytes; `tensors` in the order of their bytes.
std::string format_safetensors_header(const SafetensorsHeader& header);

// Text from a file as it may stand in a one-line message: in quotes, without control characters, cut when long.
std::string quote_for_message(std::string_view text);

}  // namespace mmoe
