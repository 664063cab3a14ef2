#pragma once
// A fingerprint of bytes: tells changed inputs and repeated documents apart. Not against forgery.

#include <cstdint>
#include <string>
#include <string_view>

namespace mmoe {

// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv). `hash` continues an earlier call.
inline uint64_t content_hash(std::string_view bytes, uint64_t hash = 0xcbf29ce484222325) {
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return hash;
}

// As files state it: "fnv1a64:" and 16 hexadecimal digits.
std::string content_hash_text(uint64_t hash);

}  // namespace mmoe
