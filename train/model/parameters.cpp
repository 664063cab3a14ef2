#include "train/model/parameters.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "sim/units/errors.h"
#include "train/ops/parallel.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {
namespace {

void initialise(const ParameterSpec& spec, at::Tensor destination, uint64_t seed) {
  if (spec.initial_std == 0) {
    destination.fill_(spec.initial_value);
    return;
  }
  const at::Generator generator = at::detail::createCPUGenerator(initial_seed(spec, seed));
  const at::Tensor values = at::empty(spec.part.is_whole() ? spec.shape : spec.part.full_shape,
                                      at::TensorOptions().dtype(destination.scalar_type()));
  at::Tensor(values).normal_(0, spec.initial_std, generator);
  if (spec.part.is_whole()) {
    destination.copy_(values);
    return;
  }
  int64_t first = 0;
  for (const TensorBox& box : spec.part.boxes) {
    destination.narrow(0, first, box[0].count).copy_(values_in(values, box));
    first += box[0].count;
  }
}

}  // namespace

at::Tensor values_in(at::Tensor whole, const TensorBox& box) {
  for (size_t dim = 0; dim < box.size(); ++dim) {
    whole = whole.narrow(static_cast<int64_t>(dim), box[dim].begin, box[dim].count);
  }
  return whole;
}

uint64_t initial_seed(const ParameterSpec& spec, uint64_t seed) {
  uint64_t hash = 14695981039346656037ULL;  // FNV-1a of the name
  for (const unsigned char c : spec.name) hash = (hash ^ c) * 1099511628211ULL;
  return seed ^ hash;
}

ParameterStore::ParameterStore(const std::vector<ParameterSpec>& specs, at::ScalarType compute_type, c10::Device device,
                               uint64_t seed, Gradients gradients, InitialWeights initial, SectionAlignment alignment) {
  const ParameterPlaces places = place_parameters(specs, alignment);
  if (device.is_meta()) initial = InitialWeights::kZero;
  sections_ = places.sections;
  num_decayed_ = places.num_decayed;
  const int64_t total = places.num_elements;
  const at::ScalarType master_type = accumulate_type(compute_type);
  const auto options = at::TensorOptions().device(device);
  master_ = at::zeros({total}, options.dtype(master_type));
  compute_ = master_type == compute_type ? master_ : at::zeros({total}, options.dtype(compute_type));
  if (gradients == Gradients::kAllocated) grad_ = at::zeros({total}, options.dtype(master_type));
  for (const auto& [index, offset] : places.tensors) {
    const ParameterSpec* const spec = &specs[index];
    int64_t count = 1;
    for (const int64_t size : spec->shape) count *= size;
    const auto view = [&](const at::Tensor& flat) { return flat.narrow(0, offset, count).view(spec->shape); };
    Parameter parameter{spec->name, view(compute_), view(master_), {}, spec->decay, spec->layer, spec->part};
    if (grad_.defined()) parameter.grad = view(grad_);
    if (initial == InitialWeights::kRandom) initialise(*spec, parameter.master, seed);
    parameters_.push_back(std::move(parameter));
  }
  if (initial == InitialWeights::kRandom) refresh_compute_weights();
}

const Parameter& ParameterStore::at(const std::string& name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& parameter) { return parameter.name == name; });
  MMOE_CHECK(found != parameters_.end()) << "no parameter " << name;
  return *found;
}

void ParameterStore::refresh_compute_weights() {
  if (compute_.is_same(master_)) return;
  const OperationScope scope("optimizer", OperationPhase::kUpdate, {});
  compute_.copy_(master_);
}

void ParameterStore::zero_gradients() {
  const OperationScope scope("optimizer", OperationPhase::kUpdate, {});
  grad_.zero_();
}

}  // namespace mmoe
