#pragma once
// A model's weights and optimiser state in a checkpoint folder.

#include <filesystem>
#include <nlohmann/json.hpp>

#include "sim/config/job.h"
#include "train/loop/optimizer.h"
#include "train/model/parameters.h"

namespace mmoe {

inline constexpr const char* kWeightsFile = "weights.safetensors";  // of one process, by the names of parameter_specs

// Writes RUN/checkpoints/step_N of one process: weights.safetensors and optimizer.safetensors (accumulate type) and
// state.json with the resolved job, the step and `extra`. Appears whole or not at all.
std::filesystem::path save_checkpoint(const std::filesystem::path& run_folder, const Job& job, int64_t step,
                                      const ParameterStore& parameters, const AdamW& optimizer,
                                      const nlohmann::json& extra);

// The same piece by piece, for the ranks of a job: what this rank holds of `ranges` of the flat buffers, into files of
// its own (none for what is empty); the ranges of all ranks together cover the model once. Frozen weights have no
// moments; those of all others in `ranges` must be owned by the optimiser.
void write_checkpoint_part(const std::filesystem::path& staging, const ParameterStore& parameters,
                           const AdamW& optimizer, const std::vector<FlatRange>& ranges, int64_t rank,
                           int64_t world_size);
// What CheckpointWriter::commit takes behind that.
nlohmann::json checkpoint_state(const Job& job, int64_t step, const nlohmann::json& extra);

// The job that a checkpoint was trained by. Throws ConfigError for a folder that is no whole checkpoint.
Job checkpoint_job(const std::filesystem::path& folder, const Overrides& overrides = {});

// Fills what a rank holds of the weights, and of the optimiser's moments, from a checkpoint of any layout. Throws
// ConfigError naming file and tensor where a tensor is missing or has another shape or type.
void load_weights(const std::filesystem::path& folder, ParameterStore& parameters);
void load_optimizer(const std::filesystem::path& folder, const ParameterStore& parameters, AdamW& optimizer);

}  // namespace mmoe
