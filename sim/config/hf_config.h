#pragma once
// Model sizes from a Hugging Face config.json: Llama, Mixtral, Qwen2-MoE, Qwen3, Qwen3-MoE, OLMoE, DeepSeek-V2/V3.

#include <nlohmann/json.hpp>
#include <string>

#include "sim/config/model_config.h"

namespace mmoe {

// Reads a config.json, or the one in a folder. Throws ConfigError for unknown architectures and for what this
// software cannot express (latent attention, sliding windows, MoE layers that alternate with dense ones, ...).
ModelConfig load_hf_config(const std::string& path);

// The same from JSON; `where` names it in messages. Left out, being under 0.1 % of the weights: biases of Qwen2-MoE's
// projections and the gate of its shared expert; so is rope_scaling, which costs nothing.
ModelConfig parse_hf_config(const nlohmann::json& json, const std::string& where);

}  // namespace mmoe
