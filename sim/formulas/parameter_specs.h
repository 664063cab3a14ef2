#pragma once
// Every tensor of a model as the trainer keeps it.

#include <cstdint>
#include <string>
#include <vector>

#include "sim/config/model_config.h"
#include "sim/config/training_config.h"

namespace mmoe {

enum class WeightDecay { kOn, kOff };

struct IndexRange {
  int64_t begin = 0, count = 0;
  bool operator==(const IndexRange&) const = default;
};

// A box of a tensor: of each dimension these indices.
using TensorBox = std::vector<IndexRange>;

// The part of a tensor that one rank holds: boxes, whose elements lie one box behind the other, each in row-major
// order. Empty: the whole tensor.
struct TensorPart {
  std::vector<int64_t> full_shape;
  std::vector<TensorBox> boxes;
  bool is_whole() const { return boxes.empty(); }
};

// Which weights share a flat section, by the ranks that hold the same ones, over which their gradients are summed:
// kShared all of a pipeline stage, kSplitExperts those of one share of the experts, kSplitTensors those of one tensor
// parallel rank. Routers, which run in the accumulate type, are apart where the other weights are gathered in the
// compute type.
enum class ParameterGroup { kShared, kSplitExperts, kSplitTensors, kRouters };
inline constexpr int kNumParameterGroups = 4;

// How tensor (of routed experts: expert-tensor) parallelism cuts a tensor: of these blocks of dimension `dim` every
// rank holds equal parts (Shoeybi et al. 2019, arXiv:1909.08053, section 3). No blocks: every rank holds all of it.
struct TensorSplit {
  int64_t dim = 0;
  std::vector<int64_t> blocks;  // sizes, which add up to the dimension's
};

// What a tensor of the model is, before there is memory for it.
struct ParameterSpec {
  std::string name;  // "layers.0.experts.gate_up"
  std::vector<int64_t> shape;
  WeightDecay decay = WeightDecay::kOn;
  double initial_std = 0;    // normal values of this spread,
  double initial_value = 0;  // else this one
  int64_t layer = 0;         // -1: before the first layer; num_layers: behind the last
  TensorPart part = {};      // `shape` is that of the part
  ParameterGroup group = ParameterGroup::kShared;
  TensorSplit tensor_split = {};
};

// "layers.0.experts.gate_up" for ("experts.gate_up", 0).
std::string layer_tensor(const std::string& part, int64_t layer);

// Every tensor of a model with its initial spread: normal with variance 2 / (5 D) (Nguyen & Salazar 2019,
// arXiv:1910.05895), projections back onto the residual stream divided by sqrt(2 num_layers).
std::vector<ParameterSpec> parameter_specs(const ModelConfig& model);

// The part of the model, of kParameterParts, that the tensor of this name belongs to.
std::string parameter_part(const std::string& name);

// Weights that training.freeze names.
double frozen_parameters(const ModelConfig& model, const TrainingConfig& training);

// Elements that a tensor takes in flat buffers, in which each starts at a multiple of 16.
int64_t padded_elements(const std::vector<int64_t>& shape);

}  // namespace mmoe
