#pragma once
// The model's weights and gradients, each kind in one flat buffer, with a named view for every tensor.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mmoe {

enum class WeightDecay { kOn, kOff };

// What a tensor of the model is, before there is memory for it.
struct ParameterSpec {
  std::string name;  // "layers.0.experts.gate_up"
  std::vector<int64_t> shape;
  WeightDecay decay = WeightDecay::kOn;
  double initial_std = 0;    // normal values of this spread,
  double initial_value = 0;  // else this one
};

// One weight: `value` in the compute type, `master` in the accumulate type (the same tensor where the types agree), and
// the accumulate-type buffer into which backward passes add its gradient.
struct Parameter {
  std::string name;
  at::Tensor value, master, grad;
  WeightDecay decay = WeightDecay::kOn;
};

// Seed of a tensor's initial values: a function of (seed, name) alone.
uint64_t initial_seed(const ParameterSpec& spec, uint64_t seed);

enum class Gradients { kNone, kAllocated };
enum class InitialWeights { kRandom, kZero };  // zero where a checkpoint is loaded over them

class ParameterStore {
 public:
  // Decayed tensors come first, so that the optimiser sees two contiguous ranges. Every tensor starts at a multiple of
  // 16 elements. Initial values are a function of (seed, name) alone.
  ParameterStore(const std::vector<ParameterSpec>& specs, at::ScalarType compute_type, c10::Device device,
                 uint64_t seed, Gradients gradients, InitialWeights initial = InitialWeights::kRandom);

  const Parameter& at(const std::string& name) const;
  const std::vector<Parameter>& all() const { return parameters_; }

  const at::Tensor& master() const { return master_; }  // [N] accumulate type
  const at::Tensor& grad() const { return grad_; }      // [N] accumulate type; undefined without gradients
  int64_t num_decayed() const { return num_decayed_; }  // elements of the first range

  // Copies the master weights into the compute-type ones, where they are apart.
  void refresh_compute_weights();
  void zero_gradients();

 private:
  at::Tensor master_, compute_, grad_;
  int64_t num_decayed_ = 0;
  std::vector<Parameter> parameters_;
};

// Elements that a tensor takes in the flat buffers, padding included.
int64_t padded_elements(const std::vector<int64_t>& shape);

}  // namespace mmoe
