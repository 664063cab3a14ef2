#include "sim/validation/run_flags.h"

#include <cstdlib>
#include <sstream>

namespace mmoe {

RunFlags::RunFlags(const std::string& text) {
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, ';');) {
    const std::size_t equal = word.find('=');
    const std::string key = word.substr(0, equal);
    if (!key.empty()) values_[key] = equal == std::string::npos ? "" : word.substr(equal + 1);
  }
}

std::string RunFlags::get(const std::string& key, const std::string& fallback) const {
  const auto found = values_.find(key);
  return found == values_.end() || found->second.empty() ? fallback : found->second;
}

double RunFlags::number(const std::string& key, double fallback) const {
  const std::string text = get(key);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end == text.c_str() ? fallback : value;
}

}  // namespace mmoe
