#pragma once
// What embed.cmake generates.

#include <span>
#include <string_view>

namespace mmoe {

struct EmbeddedFile {
  std::string_view path;  // below profiles/
  std::string_view text;
};

std::span<const EmbeddedFile> embedded_table();

}  // namespace mmoe
