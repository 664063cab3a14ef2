#include "train/data/content_hash.h"

#include <cinttypes>
#include <cstdio>

namespace mmoe {

std::string content_hash_text(uint64_t hash) {
  char text[32];
  std::snprintf(text, sizeof text, "fnv1a64:%016" PRIx64, hash);
  return text;
}

}  // namespace mmoe
