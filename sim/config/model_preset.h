#pragma once
// Ready models that are compiled into the program (profiles/presets/models).

#include <nlohmann/json.hpp>
#include <string>

#include "sim/config/model_config.h"

namespace mmoe {

// The model of that name; `where` names the key that asks for it. Throws ConfigError for unknown names.
ModelConfig load_model_preset(const std::string& name, const std::string& where);

// The embedded file of a preset: `kind` is "models", "clusters" or "jobs". Throws ConfigError naming the nearest name.
std::string preset_text(const std::string& kind, const std::string& name, const std::string& where);

}  // namespace mmoe
