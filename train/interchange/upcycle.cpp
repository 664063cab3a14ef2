#include "train/interchange/upcycle.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>

#include "sim/units/errors.h"
#include "train/checkpoint/tensor_elements.h"
#include "train/interchange/tensor_names.h"

namespace mmoe {
namespace {

at::Tensor noisy(const at::Tensor& weights, double noise, const at::Generator& generator) {
  if (noise == 0) return weights;
  const double spread = noise * weights.square().mean().sqrt().item<double>();
  return weights + at::randn(weights.sizes(), generator, weights.options()) * spread;
}

}  // namespace

ModelConfig upcycled_model(const ModelConfig& dense, const Upcycle& upcycle) {
  const auto refuse = [](const std::string& what) { throw ConfigError("mmoe import: " + what); };
  if (dense.num_experts > 0) refuse("--experts makes experts of a dense model, but this one has some; leave it out");
  if (upcycle.num_experts < 2)
    refuse("--experts " + std::to_string(upcycle.num_experts) + " is below 2; give 2 or more");
  if (upcycle.split < 1 || dense.dense_hidden_size % upcycle.split != 0 || upcycle.num_experts % upcycle.split != 0) {
    refuse("--split " + std::to_string(upcycle.split) + " must divide the feed-forward's width " +
           std::to_string(dense.dense_hidden_size) + " and --experts " + std::to_string(upcycle.num_experts));
  }
  if (upcycle.noise < 0 || upcycle.noise > 1) refuse("--noise must lie between 0 and 1");
  if (upcycle.top_k < 1 || upcycle.top_k > upcycle.num_experts) {
    refuse("--top-k must lie between 1 and --experts " + std::to_string(upcycle.num_experts));
  }
  ModelConfig model = dense;
  model.num_dense_layers = 0;
  model.dense_hidden_size = 0;
  model.num_experts = upcycle.num_experts;
  model.expert_hidden_size = dense.dense_hidden_size / upcycle.split;
  model.top_k = upcycle.top_k;
  model.gate_normalization = GateNormalization::kSelected;
  return model;
}

bool is_upcycled(const ParameterSpec& spec) {
  return spec.name.ends_with(".router") || spec.name.find(".experts.") != std::string::npos;
}

void write_upcycled(const ModelFolder& folder, const ModelConfig& dense, const ParameterSpec& spec,
                    const Upcycle& upcycle, at::ScalarType type, const ByteSink& sink) {
  const at::Generator generator = at::detail::createCPUGenerator(initial_seed(spec, upcycle.seed));
  if (spec.name.ends_with(".router")) {
    const at::Tensor values = at::empty(spec.shape, at::TensorOptions().dtype(type));
    values.normal_(0, spec.initial_std, generator);
    write_elements(values, type, sink);
    return;
  }
  const bool is_down = spec.name.ends_with(".down");
  const std::string layer = spec.name.substr(0, spec.name.find(".experts."));
  const int64_t D = dense.hidden_size, width = dense.dense_hidden_size, slice = width / upcycle.split;
  ParameterSpec source{layer + (is_down ? ".mlp.down" : ".mlp.gate_up"), {D, width}};
  std::vector<at::Tensor> tensors;
  for (const ForeignTensor& tensor : foreign_tensors(dense, TensorNaming::kCommon, source)) {
    tensors.push_back(stored_tensor(folder.at(tensor.name, tensor.shape)).to(type));
  }
  for (int64_t expert = 0; expert < upcycle.num_experts; ++expert) {
    const int64_t first = expert % upcycle.split * slice;
    for (const at::Tensor& tensor : tensors) {
      const at::Tensor part = tensor.narrow(is_down ? 1 : 0, first, slice);
      const at::Tensor scaled = is_down && upcycle.split > 1 ? part * static_cast<double>(upcycle.split) : part;
      write_elements(noisy(scaled, upcycle.noise, generator), type, sink);
    }
  }
}

}  // namespace mmoe
