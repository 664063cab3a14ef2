#pragma once
// Why layouts were rejected, by reason and by family (pipeline x tensor).

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "sim/search/layout_candidate.h"

namespace mmoe {

// Layouts rejected for one reason. Of those that do not fit, the closest one: by how much, and on which pipeline rank.
struct Rejection {
  int64_t count = 0;
  double least_excess_bytes = 0;
  int64_t stage = 0;
  std::optional<LayoutCandidate> closest;

  void merge(const Rejection& other);
};

// All layouts of one pipeline and tensor parallel size.
struct LayoutFamily {
  int64_t fitting = 0;
  std::map<std::string, Rejection, std::less<>> rejected;  // by reason

  Rejection& of(const char* reason);
};
using FamilyKey = std::pair<int64_t, int64_t>;  // pipeline, tensor

inline constexpr const char* kOverMemory = "does not fit";
inline constexpr const char* kOverHostMemory = "the host's memory does not hold what is offloaded";

// "pipeline 16 x tensor 8".
std::string family_name(const FamilyKey& key);

// Families without a layout that fits, by the reason that most of their layouts share; `kOverMemory` where any is
// valid.
std::map<std::string, std::map<FamilyKey, Rejection>> rejected_families(
    const std::map<FamilyKey, LayoutFamily>& families);

}  // namespace mmoe
