#pragma once

#include <string>

#include "sim/config/training_config.h"

namespace mmoe {

// "none", "full" ("full of 3" layers of each chunk), or the modules, and what experts keep where it is not the default:
// "attention+moe", "none, expert_saving recompute".
std::string recompute_text(const Recompute& recompute, ExpertSaving saving);

}  // namespace mmoe
