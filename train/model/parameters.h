#pragma once
// The model's weights and gradients, each kind in one flat buffer, with a named view for every tensor.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mmoe {

enum class WeightDecay { kOn, kOff };

// The part of a tensor that one rank holds: of each dimension these indices. Empty: the whole tensor.
struct IndexRange {
  int64_t begin = 0, count = 0;
  bool operator==(const IndexRange&) const = default;
};
struct TensorPart {
  std::vector<int64_t> full_shape;
  std::vector<IndexRange> ranges;  // by dimension
  bool is_whole() const { return ranges.empty(); }
};

// Which weights share a flat section: experts that are split over ranks are summed over other ranks than the rest.
enum class ParameterGroup { kShared, kSplitExperts };

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
};

// One weight: `value` in the compute type, `master` in the accumulate type (the same tensor where the types agree), and
// the accumulate-type buffer into which backward passes add its gradient.
struct Parameter {
  std::string name;
  at::Tensor value, master, grad;
  WeightDecay decay = WeightDecay::kOn;
  int64_t layer = 0;
  TensorPart part = {};
};

// Seed of a tensor's initial values: a function of (seed, name) alone.
uint64_t initial_seed(const ParameterSpec& spec, uint64_t seed);

enum class Gradients { kNone, kAllocated };
// Elements [begin, end) of the flat buffers.
struct FlatRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const FlatRange&) const = default;
};

// Numbers of elements of which the sections of the flat buffers are multiples, so that ranks can share them evenly.
struct SectionAlignment {
  int64_t shared = 16, split_experts = 16;
};
enum class InitialWeights { kRandom, kZero };  // zero where a checkpoint is loaded over them

class ParameterStore {
 public:
  // Sections in order: split experts, shared weights with decay, those without; so the optimiser sees two contiguous
  // ranges. Every tensor starts at a multiple of 16 elements. Initial values are a function of (seed, name, index in
  // the whole tensor) alone.
  ParameterStore(const std::vector<ParameterSpec>& specs, at::ScalarType compute_type, c10::Device device,
                 uint64_t seed, Gradients gradients, InitialWeights initial = InitialWeights::kRandom,
                 SectionAlignment alignment = {});

  const Parameter& at(const std::string& name) const;
  const std::vector<Parameter>& all() const { return parameters_; }

  const at::Tensor& master() const { return master_; }              // [N] accumulate type
  const at::Tensor& grad() const { return grad_; }                  // [N] accumulate type; undefined without gradients
  int64_t num_decayed() const { return num_decayed_; }              // elements of the first two sections
  int64_t num_split_experts() const { return num_split_experts_; }  // elements of the first section

  // Copies the master weights into the compute-type ones, where they are apart.
  void refresh_compute_weights();
  void zero_gradients();

 private:
  at::Tensor master_, compute_, grad_;
  int64_t num_decayed_ = 0, num_split_experts_ = 0;
  std::vector<Parameter> parameters_;
};

// Elements that a tensor takes in the flat buffers, padding included.
int64_t padded_elements(const std::vector<int64_t>& shape);

}  // namespace mmoe
