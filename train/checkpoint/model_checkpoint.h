#pragma once
// A model's weights and optimiser state in a checkpoint folder.

#include <filesystem>
#include <nlohmann/json.hpp>

#include "sim/config/job.h"
#include "train/loop/optimizer.h"
#include "train/model/parameters.h"

namespace mmoe {

inline constexpr const char* kWeightsFile = "weights.safetensors";  // of a checkpoint, by the names of parameter_specs

// Writes RUN/checkpoints/step_N: weights.safetensors and optimizer.safetensors (accumulate type) and state.json with
// the resolved job, the step and `extra`. Appears whole or not at all.
std::filesystem::path save_checkpoint(const std::filesystem::path& run_folder, const Job& job, int64_t step,
                                      const ParameterStore& parameters, const AdamW& optimizer,
                                      const nlohmann::json& extra);

// The job that a checkpoint was trained by. Throws ConfigError for a folder that is no whole checkpoint.
Job checkpoint_job(const std::filesystem::path& folder, const Overrides& overrides = {});

// Fills parameters (and the optimiser, if given) from a checkpoint. Throws ConfigError naming file and tensor where a
// tensor is missing or has another shape or type.
void load_weights(const std::filesystem::path& folder, ParameterStore& parameters);
void load_optimizer(const std::filesystem::path& folder, const ParameterStore& parameters, AdamW& optimizer);

}  // namespace mmoe
