#pragma once
// What this project's trainer cannot run of what the simulator can plan.

#include <optional>
#include <string>

#include "sim/config/job.h"

namespace mmoe {

// The end of an error line, "model.norm = layer cannot be trained here; use rms", or nothing where the trainer runs the
// job's model and training, or its layout.
std::optional<std::string> why_model_is_not_trained(const Job& job);
std::optional<std::string> why_layout_is_not_trained(const Job& job);

bool trainer_runs(const Job& job);  // neither is refused

}  // namespace mmoe
