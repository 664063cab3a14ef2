#include "sim/formulas/parameter_specs.h"

#include <cmath>

namespace mmoe {

std::string layer_tensor(const std::string& part, int64_t layer) {
  return "layers." + std::to_string(layer) + "." + part;
}

std::vector<ParameterSpec> parameter_specs(const ModelConfig& model) {
  const int64_t D = model.hidden_size, M = model.query_size(), N = model.kv_size();
  const int64_t F = model.expert_hidden_size;
  const double std = std::sqrt(2.0 / (5.0 * static_cast<double>(D)));
  const double output_std = std / std::sqrt(2.0 * static_cast<double>(model.num_layers));
  std::vector<ParameterSpec> specs;
  int64_t layer = -1;
  const auto norm = [&](const std::string& name, int64_t size) {
    specs.push_back({name, {size}, WeightDecay::kOff, 0, 1, layer});
  };
  const auto matrix = [&](const std::string& name, std::vector<int64_t> shape, double spread) {
    specs.push_back({name, std::move(shape), WeightDecay::kOn, spread, 0, layer});
  };
  const auto split = [&](int64_t dim, std::vector<int64_t> blocks) { specs.back().tensor_split = {dim, blocks}; };
  matrix("embedding", {model.vocab_size, D}, std);
  for (int64_t l = 0; l < model.num_layers; ++l) {
    layer = l;
    norm(layer_tensor("attention_norm", l), D);
    matrix(layer_tensor("attention.qkv", l), {M + 2 * N, D}, std);
    split(0, {M, N, N});
    if (model.qkv_bias) {
      specs.push_back({layer_tensor("attention.qkv_bias", l), {M + 2 * N}, WeightDecay::kOff, 0, 0, l});
      split(0, {M, N, N});
    }
    if (model.qk_norm != QkNorm::kNone) {
      const bool per_head = model.qk_norm == QkNorm::kPerHead;
      norm(layer_tensor("attention.query_norm", l), per_head ? model.head_dim : M);
      if (!per_head) split(0, {M});
      norm(layer_tensor("attention.key_norm", l), per_head ? model.head_dim : N);
      if (!per_head) split(0, {N});
    }
    matrix(layer_tensor("attention.output", l), {D, M}, output_std);
    split(1, {M});
    norm(layer_tensor("feed_forward_norm", l), D);
    const bool moe = model.is_moe_layer(l);
    const int64_t dense = moe ? model.shared_expert_hidden_size : model.dense_hidden_size;
    if (dense > 0) {
      const std::string part = moe ? "shared_expert" : "mlp";
      matrix(layer_tensor((part + ".gate_up"), l), {2 * dense, D}, std);
      split(0, {dense, dense});
      matrix(layer_tensor((part + ".down"), l), {D, dense}, output_std);
      split(1, {dense});
      if (moe && model.shared_expert_gate) matrix(layer_tensor("shared_expert.gate", l), {1, D}, std);
    }
    if (moe) {
      matrix(layer_tensor("router", l), {model.num_experts, D}, std);
      matrix(layer_tensor("experts.gate_up", l), {model.num_experts, 2 * F, D}, std);
      split(1, {F, F});
      matrix(layer_tensor("experts.down", l), {model.num_experts, D, F}, output_std);
      split(2, {F});
    }
  }
  layer = model.num_layers;
  norm("final_norm", D);
  if (!model.tie_embeddings) matrix("output", {model.vocab_size, D}, std);
  return specs;
}

std::string parameter_part(const std::string& name) {
  if (name.ends_with("norm")) return "norms";
  if (name == "embedding") return "embedding";
  if (name == "output") return "head";
  const size_t begin = name.find('.', name.find('.') + 1) + 1;  // behind "layers.N."
  return name.substr(begin, name.find('.', begin) - begin);
}

double frozen_parameters(const ModelConfig& model, const TrainingConfig& training) {
  double count = 0;
  for (const ParameterSpec& spec : parameter_specs(model)) {
    if (!training.freezes(parameter_part(spec.name))) continue;
    double elements = 1;
    for (const int64_t size : spec.shape) elements *= static_cast<double>(size);
    count += elements;
  }
  return count;
}

int64_t padded_elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return (count + 15) / 16 * 16;
}

}  // namespace mmoe
