#include "train/model/parameters.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

#include "sim/units/errors.h"
#include "train/ops/parallel.h"
#include "train/profiling/operation_scope.h"

namespace mmoe {
namespace {

// Initial values of this rank's part of a tensor, in the type given.
at::Tensor initial_values(const ParameterSpec& spec, at::ScalarType type, uint64_t seed) {
  const at::Generator generator = at::detail::createCPUGenerator(initial_seed(spec, seed));
  const at::Tensor values =
      at::empty(spec.part.is_whole() ? spec.shape : spec.part.full_shape, at::TensorOptions().dtype(type));
  at::Tensor(values).normal_(0, spec.initial_std, generator);
  if (spec.part.is_whole()) return values;
  std::vector<at::Tensor> boxes;
  for (const TensorBox& box : spec.part.boxes) boxes.push_back(values_in(values, box));
  return at::cat(boxes);
}

FlatRange common(const FlatRange& a, const FlatRange& b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
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

GradientSum next_sum(const Parameter& parameter) {
  return std::exchange(parameter.grad_is_stale, false) ? GradientSum::kBegin : GradientSum::kContinue;
}

const at::Tensor& summed_gradient(const Parameter& parameter) {
  if (next_sum(parameter) == GradientSum::kBegin) at::Tensor(parameter.grad).zero_();
  return parameter.grad;
}

ParameterStore::ParameterStore(const std::vector<ParameterSpec>& specs, at::ScalarType compute_type, c10::Device device,
                               uint64_t seed, Gradients gradients, InitialWeights initial, SectionAlignment alignment,
                               KeptRanges kept) {
  const ParameterPlaces places = place_parameters(specs, alignment);
  if (device.is_meta()) initial = InitialWeights::kZero;
  const bool whole_weights = kept.weights.empty(), whole_gradients = kept.gradients.empty();
  if (whole_weights) kept.weights = {{0, places.num_elements}};
  if (whole_gradients) kept.gradients = kept.weights;
  const auto kept_elements = [&](const FlatRange& of) {
    int64_t count = 0;
    for (const FlatRange& range : kept.weights) count += std::max<int64_t>(0, common(range, of).size());
    return count;
  };
  num_decayed_ = kept_elements({0, places.num_decayed});
  for (const Section& section : places.sections) {
    const int64_t begin = sections_.empty() ? 0 : sections_.back().range.end;
    sections_.push_back({{begin, begin + kept_elements(section.range)}, section.group});
  }
  const at::ScalarType master_type = accumulate_type(compute_type);
  const auto options = at::TensorOptions().device(device);
  master_ = at::zeros({num_elements(kept.weights)}, options.dtype(master_type));
  if (whole_weights) {
    compute_ = master_type == compute_type ? master_ : at::zeros({places.num_elements}, options.dtype(compute_type));
  }
  if (gradients == Gradients::kAllocated) {
    grad_ = at::zeros({num_elements(kept.gradients)}, options.dtype(master_type));
    if (whole_weights && !whole_gradients) grad_ranges_ = kept.gradients;
  }
  parameters_.reserve(places.tensors.size());
  for (const auto& [index, offset] : places.tensors) {
    const ParameterSpec& spec = specs[index];
    int64_t count = 1;
    for (const int64_t size : spec.shape) count *= size;
    const auto view = [&, first = offset](const at::Tensor& flat) {
      return flat.narrow(0, first, count).view(spec.shape);
    };
    Parameter& parameter = parameters_.emplace_back();
    parameter.name = spec.name;
    parameter.decay = spec.decay;
    parameter.layer = spec.layer;
    parameter.part = spec.part;
    parameter.shape = spec.shape;
    parameter.first = offset;
    if (whole_weights) {
      parameter.value = view(compute_);
      parameter.master = view(master_);
    }
    if (grad_.defined() && whole_gradients) parameter.grad = view(grad_);
    at::Tensor values;
    if (initial == InitialWeights::kRandom && spec.initial_std != 0) values = initial_values(spec, master_type, seed);
    int64_t held_before = 0;
    for (const FlatRange& range : kept.weights) {
      const FlatRange held = common(range, {offset, offset + count});
      if (held.size() > 0) {
        const FlatRange elements{held.begin - offset, held.end - offset};
        const int64_t first = held_before + held.begin - range.begin;
        held_.push_back({&parameter, elements, first});
        at::Tensor destination = master_.narrow(0, first, held.size());
        if (values.defined()) {
          destination.copy_(values.reshape({-1}).narrow(0, elements.begin, elements.size()));
        } else if (initial == InitialWeights::kRandom) {
          destination.fill_(spec.initial_value);
        }
      }
      held_before += range.size();
    }
  }
  if (initial == InitialWeights::kRandom) refresh_compute_weights();
}

const Parameter& ParameterStore::at(const std::string& name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& parameter) { return parameter.name == name; });
  MMOE_CHECK(found != parameters_.end()) << "no parameter " << name;
  return *found;
}

at::Tensor ParameterStore::grad(const FlatRange& range) const {
  if (grad_ranges_.empty()) return grad_.narrow(0, range.begin, range.size());
  int64_t first = 0;
  for (const FlatRange& kept : grad_ranges_) {
    if (kept.begin <= range.begin && range.begin < kept.end) first += range.begin - kept.begin;
    if (range.begin < kept.end) break;
    first += kept.size();
  }
  return grad_.narrow(0, first, range.size());
}

void ParameterStore::refresh_compute_weights() {
  if (!compute_.defined() || compute_.is_same(master_)) return;
  const OperationScope scope("optimizer", OperationPhase::kUpdate, {});
  compute_.copy_(master_);
}

void ParameterStore::begin_gradients() {
  if (parameters_.empty() || parameters_.front().grad.defined()) {
    for (Parameter& parameter : parameters_) parameter.grad_is_stale = true;
    return;
  }
  const OperationScope scope("optimizer", OperationPhase::kUpdate, {});
  grad_.zero_();
}

void ParameterStore::finish_gradients() {
  for (const Parameter& parameter : parameters_) {
    if (parameter.grad.defined()) summed_gradient(parameter);
  }
}

}  // namespace mmoe
