#pragma once
// A checkpoint becomes a folder that stock software opens.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mmoe {

struct ExportOptions {
  at::ScalarType type = at::kBFloat16;  // of the written weights
  std::vector<int> k_per_layer;         // of the MoE layers
  int64_t max_shard_bytes = 5'000'000'000;
};

struct ExportSummary {
  std::string model_type;
  int num_experts_per_tok = 0;  // the one k in config.json: the plan's mean, rounded
  int64_t num_files = 0, bytes = 0;
};

// Writes `out`, whole or not at all: config.json, weights as save_pretrained names them, the tokenizer's files that the
// checkpoint has, and for MoE models k_plan.json with the loader k_plan.py, since stock software knows one k for all
// layers. Throws ConfigError where `out` exists and is not empty, or no stock class computes the model.
ExportSummary export_model(const std::filesystem::path& checkpoint, const std::filesystem::path& out,
                           const ExportOptions& options);

}  // namespace mmoe
