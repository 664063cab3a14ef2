#pragma once
// The words of training.recompute beside "none".

#include <array>
#include <string>
#include <vector>

namespace mmoe {

inline constexpr std::array kRecomputeModules = std::to_array<const char*>(
    {"attention", "moe", "mlp", "shared_experts", "mla_up_projection", "core_attention", "moe_activation", "norm"});

// "full" and the modules.
inline std::vector<std::string> recompute_words() {
  std::vector<std::string> words = {"full"};
  words.insert(words.end(), kRecomputeModules.begin(), kRecomputeModules.end());
  return words;
}

}  // namespace mmoe
