#pragma once

#include <string>

#include "sim/config/training_config.h"

namespace mmoe {

// "none", "full", or the modules: "attention+moe".
std::string recompute_text(const Recompute& recompute);

}  // namespace mmoe
