#pragma once
// The model's weights and gradients, each kind in one flat buffer, with a named view for every tensor.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sim/plan/trainer_layout.h"

namespace mmoe {

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

// A view of a box of a whole tensor.
at::Tensor values_in(at::Tensor whole, const TensorBox& box);

enum class Gradients { kNone, kAllocated };
// Zero where a checkpoint is loaded over them; of meta tensors nothing.
enum class InitialWeights { kRandom, kZero };

class ParameterStore {
 public:
  // Tensors lie as place_parameters says. Initial values are a function of (seed, name, index in
  // the whole tensor) alone.
  ParameterStore(const std::vector<ParameterSpec>& specs, at::ScalarType compute_type, c10::Device device,
                 uint64_t seed, Gradients gradients, InitialWeights initial = InitialWeights::kRandom,
                 SectionAlignment alignment = {});

  const Parameter& at(const std::string& name) const;
  const std::vector<Parameter>& all() const { return parameters_; }

  const at::Tensor& master() const { return master_; }  // [N] accumulate type
  const at::Tensor& grad() const { return grad_; }      // [N] accumulate type; undefined without gradients
  const std::vector<Section>& sections() const { return sections_; }
  int64_t num_decayed() const { return num_decayed_; }  // elements of the sections with weight decay, which come first

  // Copies the master weights into the compute-type ones, where they are apart.
  void refresh_compute_weights();
  void zero_gradients();

 private:
  at::Tensor master_, compute_, grad_;
  int64_t num_decayed_ = 0;
  std::vector<Section> sections_;
  std::vector<Parameter> parameters_;
};

}  // namespace mmoe
