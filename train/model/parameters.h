#pragma once
// The model's weights and gradients, each kind in one flat buffer, with a named view for every tensor. Of buffers that
// ranks share out (ZeRO 2 and 3) this rank's shares alone are there, one behind the other; LayerShards then makes the
// tensors of a layer whole while it is at work.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sim/plan/trainer_layout.h"

namespace mmoe {

// One weight: `value` in the compute type, `master` in the accumulate type (the same tensor where the types agree), and
// the accumulate-type buffer into which backward passes add its gradient. Undefined while shared out.
struct Parameter {
  std::string name;
  at::Tensor value, master, grad;
  WeightDecay decay = WeightDecay::kOn;
  int64_t layer = 0;
  TensorPart part = {};
  std::vector<int64_t> shape = {};
  int64_t first = 0;                   // element of the flat buffers
  mutable bool grad_is_stale = false;  // it holds the step before: what comes first in a step takes its place
};

// What becomes of a gradient's values when more comes.
enum class GradientSum { kBegin, kContinue };  // it takes their place; it is added to them

// The first call in a step begins the gradient's sum, the later ones go on with it.
GradientSum next_sum(const Parameter& parameter);
// The gradient to add to: zero where nothing has come in this step.
const at::Tensor& summed_gradient(const Parameter& parameter);

// What one of the weights' buffers holds of a tensor: `elements` of those of this rank's part, from element `first` on.
struct HeldElements {
  const Parameter* parameter;
  FlatRange elements;
  int64_t first;
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
                 SectionAlignment alignment = {}, KeptRanges kept = {});
  ParameterStore(ParameterStore&&) = default;

  const Parameter& at(const std::string& name) const;
  const std::vector<Parameter>& all() const { return parameters_; }
  std::vector<Parameter>& all() { return parameters_; }  // their addresses stay

  // [N] accumulate type; of weights that are shared out N counts this rank's share, and so do the numbers below.
  const at::Tensor& master() const { return master_; }
  // [N] compute type; undefined where that is master() or weights are shared out.
  at::Tensor compute() const { return compute_.is_same(master_) ? at::Tensor() : compute_; }
  const std::vector<Section>& sections() const { return sections_; }
  int64_t num_decayed() const { return num_decayed_; }  // elements of the sections with weight decay, which come first
  const std::vector<HeldElements>& held() const { return held_; }  // what is in master()

  // [N] accumulate type, this rank's share where gradients are shared out; undefined without gradients.
  const at::Tensor& grad() const { return grad_; }
  // The gradients of these elements of master(); where gradients are shared out, elements that this rank keeps.
  at::Tensor grad(const FlatRange& range) const;

  // Copies the master weights into the compute-type ones, where they are apart and kept.
  void refresh_compute_weights();

  // The gradients' sums begin anew: no pass over memory, but where gradients are shared out. Until finish_gradients or
  // until something has come, a gradient holds the values of the step before.
  void begin_gradients();
  // Gradients to which nothing has come are zero.
  void finish_gradients();

 private:
  at::Tensor master_, compute_, grad_;
  int64_t num_decayed_ = 0;
  std::vector<Section> sections_;
  std::vector<FlatRange> grad_ranges_;  // elements of master_ that grad_ holds; empty: all
  std::vector<Parameter> parameters_;
  std::vector<HeldElements> held_;
};

}  // namespace mmoe
