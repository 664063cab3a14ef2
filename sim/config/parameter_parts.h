#pragma once
// The words of training.freeze: parts of a model, of which each tensor belongs to one.

#include <array>

namespace mmoe {

inline constexpr std::array kParameterParts = std::to_array<const char*>(
    {"embedding", "attention", "mlp", "router", "experts", "shared_expert", "norms", "head"});

}  // namespace mmoe
