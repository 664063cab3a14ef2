#pragma once
// Flags that set a key of the job file: --parallelism.tensor 4.

#include <nlohmann/json.hpp>

#include "sim/config/job.h"

namespace mmoe {

// Sets the keys in `job`, in the order of the job file. Relative paths are relative to the working folder. A flag on
// one key of a preset keeps the others of the preset. Throws ConfigError for unknown keys.
void apply_overrides(nlohmann::json& job, const Overrides& overrides);

}  // namespace mmoe
