#include "sim/search/rejections.h"

#include <algorithm>

namespace mmoe {

void Rejection::merge(const Rejection& other) {
  count += other.count;
  if (!other.closest) return;
  const auto distance = [](const Rejection& r) { return std::pair(r.least_excess_bytes, r.closest->shape); };
  if (closest && distance(other) >= distance(*this)) return;
  least_excess_bytes = other.least_excess_bytes;
  stage = other.stage;
  closest = other.closest;
}

Rejection& LayoutFamily::of(const char* reason) {
  const auto place = rejected.find(reason);
  return place == rejected.end() ? rejected[reason] : place->second;
}

std::string family_name(const FamilyKey& key) {
  return "pipeline " + std::to_string(key.first) + " x tensor " + std::to_string(key.second);
}

std::map<std::string, std::map<FamilyKey, Rejection>> rejected_families(
    const std::map<FamilyKey, LayoutFamily>& families) {
  std::map<std::string, std::map<FamilyKey, Rejection>> result;
  for (const auto& [key, family] : families) {
    if (family.fitting > 0 || family.rejected.empty()) continue;
    auto main = family.rejected.find(kOverMemory);
    if (main == family.rejected.end()) {
      main = std::max_element(family.rejected.begin(), family.rejected.end(),
                              [](const auto& a, const auto& b) { return a.second.count < b.second.count; });
    }
    result[main->first][key] = main->second;
  }
  return result;
}

}  // namespace mmoe
