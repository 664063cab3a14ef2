#pragma once
// Model sizes from a Hugging Face config.json: Llama, Mixtral, Qwen2-MoE, Qwen3, Qwen3-MoE, OLMoE, DeepSeek-V2/V3.

#include <nlohmann/json.hpp>
#include <string>

#include "sim/config/model_config.h"

namespace mmoe {

enum class HfSizes { kComplete, kAsWritten };

// Reads a config.json, or the one in a folder. With kAsWritten what follows from other sizes (head_dim, the number of
// dense layers of a dense model) is left open and nothing is checked, so that a job may change sizes first. Throws
// ConfigError for unknown architectures and for what this software cannot express (latent attention, sliding windows,
// MoE layers that alternate with dense ones, ...).
ModelConfig load_hf_config(const std::string& path, HfSizes sizes = HfSizes::kComplete);

// The same from JSON; `where` names it in messages. Left out, being under 0.1 % of the weights: biases of Qwen2-MoE's
// projections and the gate of its shared expert; so is rope_scaling, which costs nothing.
ModelConfig parse_hf_config(const nlohmann::json& json, const std::string& where, HfSizes sizes = HfSizes::kComplete);

}  // namespace mmoe
