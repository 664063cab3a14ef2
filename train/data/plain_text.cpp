#include "train/data/plain_text.h"

#include <algorithm>

namespace mmoe {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// Bytes of the well-formed character at the start of a non-empty `text`, 0 when it is ill-formed.
size_t character_size(std::string_view text) {
  const auto at = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto within = [&](size_t i, unsigned low, unsigned high) { return at(i) >= low && at(i) <= high; };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return within(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool second =
        within(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF);  // neither overlong nor surrogate
    return second && within(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool second = within(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF);  // up to U+10FFFF
    return second && within(2, 0x80, 0xBF) && within(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string_view first_chunk(std::string_view text) {
  const std::string_view window = text.substr(0, kMaxChunkSize);
  const size_t line_feed = window.find('\n');
  if (line_feed != std::string_view::npos) {
    return window.substr(0, std::min(window.find_first_not_of('\n', line_feed), window.size()));
  }
  if (window.size() == text.size()) return text;
  const size_t space = window.rfind(' ');
  if (space != std::string_view::npos && space > 0) return window.substr(0, space);
  size_t end = window.size();
  while (end > window.size() - 3 && is_continuation(text[end])) --end;
  return window.substr(0, end);
}

size_t plain_prefix(std::string_view text) {
  size_t end = 0;
  while (end < text.size()) {
    const std::string_view rest = text.substr(end);
    const size_t size = character_size(rest);
    if (size == 0 || rest[0] == '\0' || rest.starts_with(kSpaceSymbol)) break;
    end += size;
  }
  return end;
}

}  // namespace mmoe
