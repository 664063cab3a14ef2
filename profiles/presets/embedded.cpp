#include "profiles/presets/embedded.h"

#include <algorithm>

#include "profiles/presets/embedded_table.h"

namespace mmoe {

std::optional<std::string_view> embedded_file(std::string_view path) {
  for (const EmbeddedFile& file : embedded_table()) {
    if (file.path == path) return file.text;
  }
  return std::nullopt;
}

std::vector<std::string> embedded_names(std::string_view folder) {
  constexpr std::string_view kSuffix = ".json";
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_table()) {
    const auto slash = file.path.rfind('/');
    if (file.path.substr(0, slash) != folder || !file.path.ends_with(kSuffix)) continue;
    names.emplace_back(file.path.substr(slash + 1, file.path.size() - slash - 1 - kSuffix.size()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace mmoe
