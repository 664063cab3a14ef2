#pragma once
// The Hugging Face class that computes what a model of ours computes, and its config.json.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "train/interchange/tensor_names.h"

namespace mmoe {

struct ForeignModel {
  std::string model_type;  // "olmoe"
  TensorNaming naming = TensorNaming::kCommon;
  // The model as that class has it. Models without norms of queries and keys whose routing weights are not normalised
  // have no class of their own: Qwen2-MoE's with a shared expert of zeros computes the same.
  ModelConfig model;
  bool zero_shared_expert = false;
  nlohmann::ordered_json config;
};

// `top_k`: the one number of active experts that stock software uses. `imported`: the config.json that the model came
// with, or null: its token ids and position limit are kept. Throws ConfigError where no stock class computes the model.
ForeignModel foreign_model(const Job& job, int top_k, at::ScalarType type, const nlohmann::json& imported);

}  // namespace mmoe
