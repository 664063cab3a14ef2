#pragma once
// How job.cpp reads each section of a job file; one source file a section. Nothing outside sim/config needs this.

#include <nlohmann/json.hpp>
#include <string>

#include "sim/config/job.h"
#include "sim/config/json_reader.h"

namespace mmoe {

// `root` is a reader of the whole file; `folder` resolves relative paths. Each throws ConfigError for keys that are
// unknown, of the wrong type or outside their range; rules between keys are left to validate().
ModelConfig read_model(JsonReader& root, const std::string& folder);
HardwareConfig read_hardware(JsonReader& root, const std::string& folder);
ParallelismConfig read_parallelism(JsonReader& root);
TrainingConfig read_training(JsonReader& root, const std::string& folder);
// Without an elastic section: fixed k = model.top_k. A budget without groups gets one for each pipeline rank that holds
// MoE layers.
ElasticConfig read_elastic(JsonReader& root, const ModelConfig& model, const ParallelismConfig& parallelism);
DataConfig read_data(JsonReader& root, const std::string& folder);
LoopConfig read_loop(JsonReader& root);

// Reads the inline keys of a model section into `model`, over what it holds already.
void read_model_keys(JsonReader& section, ModelConfig& model);
// Fills in what follows from the rest: num_kv_heads, head_dim, num_dense_layers of a dense model.
void complete_model(ModelConfig& model);

// Bounds of kind `window` against the micro-batches that each pipeline rank holds in flight. Throws ConfigError.
void check_window(const Budget& budget, const Job& job);

nlohmann::json to_json(const ModelConfig& model);
nlohmann::json to_json(const HardwareConfig& hardware);
nlohmann::json to_json(const ParallelismConfig& parallelism);
nlohmann::json to_json(const TrainingConfig& training);
nlohmann::json to_json(const ElasticConfig& elastic);

// `path` against `folder`, in normal form; absolute paths stay.
std::string resolve_path(const std::string& path, const std::string& folder);

// ": parallelism.expert = 6 " and the like: the start of a line about one key.
template <class T>
std::string about(const std::string& where, const std::string& key, const T& value) {
  return where + ": " + key + " = " + shown(nlohmann::json(value)) + " ";
}

// "use 4 or 8": the divisors of `whole` next to `wrong`.
std::string suggest_divisors(int64_t whole, int64_t wrong);

}  // namespace mmoe
