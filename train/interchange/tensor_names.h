#pragma once
// Hugging Face's names of a model's tensors, for each tensor of ours.

#include <cstdint>
#include <string>
#include <vector>

#include "sim/config/model_config.h"
#include "train/model/parameters.h"

namespace mmoe {

// How `transformers` names the tensors of a MoE block: as Mixtral does, or as all others do.
enum class TensorNaming { kCommon, kMixtral };

struct ForeignTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// The foreign tensors whose elements, one tensor after another and each row by row, are those of our tensor `spec`
// (parameter_specs): fused projections are queries, keys and values, or gate and up; experts follow one another.
std::vector<ForeignTensor> foreign_tensors(const ModelConfig& model, TensorNaming naming, const ParameterSpec& spec);

}  // namespace mmoe
