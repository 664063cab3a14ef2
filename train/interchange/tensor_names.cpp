#include "train/interchange/tensor_names.h"

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// A feed-forward's three projections; [F, D], [F, D], [D, F].
struct Projections {
  std::string gate, up, down;
};

Projections projections(const std::string& prefix) {
  return {prefix + "gate_proj.weight", prefix + "up_proj.weight", prefix + "down_proj.weight"};
}

Projections expert_projections(const std::string& layer, TensorNaming naming, int64_t expert) {
  const std::string number = std::to_string(expert) + ".";
  if (naming == TensorNaming::kCommon) return projections(layer + "mlp.experts." + number);
  const std::string prefix = layer + "block_sparse_moe.experts." + number;
  return {prefix + "w1.weight", prefix + "w3.weight", prefix + "w2.weight"};
}

}  // namespace

std::vector<ForeignTensor> foreign_tensors(const ModelConfig& model, TensorNaming naming, const ParameterSpec& spec) {
  const int64_t D = model.hidden_size, F = model.expert_hidden_size;
  if (spec.name == "embedding") return {{"model.embed_tokens.weight", spec.shape}};
  if (spec.name == "final_norm") return {{"model.norm.weight", spec.shape}};
  if (spec.name == "output") return {{"lm_head.weight", spec.shape}};
  const size_t number_end = spec.name.find('.', std::string("layers.").size());
  MMOE_CHECK(spec.name.starts_with("layers.") && number_end != std::string::npos) << spec.name;
  const std::string layer = "model." + spec.name.substr(0, number_end + 1), part = spec.name.substr(number_end + 1);
  if (part == "attention_norm") return {{layer + "input_layernorm.weight", spec.shape}};
  if (part == "feed_forward_norm") return {{layer + "post_attention_layernorm.weight", spec.shape}};
  if (part == "attention.output") return {{layer + "self_attn.o_proj.weight", spec.shape}};
  if (part == "attention.query_norm") return {{layer + "self_attn.q_norm.weight", spec.shape}};
  if (part == "attention.key_norm") return {{layer + "self_attn.k_norm.weight", spec.shape}};
  if (part == "attention.qkv" || part == "attention.qkv_bias") {
    const bool bias = part == "attention.qkv_bias";
    std::vector<ForeignTensor> parts;
    for (const char letter : {'q', 'k', 'v'}) {
      const int64_t rows = letter == 'q' ? model.query_size() : model.kv_size();
      parts.push_back({layer + "self_attn." + letter + (bias ? "_proj.bias" : "_proj.weight"),
                       bias ? std::vector<int64_t>{rows} : std::vector<int64_t>{rows, D}});
    }
    return parts;
  }
  if (part == "router") {
    const bool mixtral = naming == TensorNaming::kMixtral;
    return {{layer + (mixtral ? "block_sparse_moe.gate.weight" : "mlp.gate.weight"), spec.shape}};
  }
  if (part == "shared_expert.gate") return {{layer + "mlp.shared_expert_gate.weight", spec.shape}};
  const auto up = [&](const Projections& p, int64_t width) {
    return std::vector<ForeignTensor>{{p.gate, {width, D}}, {p.up, {width, D}}};
  };
  const bool shared = part.starts_with("shared_expert.");
  if (shared || part.starts_with("mlp.")) {
    const Projections p = projections(layer + (shared ? "mlp.shared_expert." : "mlp."));
    if (part.ends_with("down")) return {{p.down, spec.shape}};
    return up(p, shared ? model.shared_expert_hidden_size : model.dense_hidden_size);
  }
  MMOE_CHECK(part == "experts.gate_up" || part == "experts.down") << spec.name;
  std::vector<ForeignTensor> parts;
  for (int64_t expert = 0; expert < model.num_experts; ++expert) {
    const Projections p = expert_projections(layer, naming, expert);
    if (part == "experts.down") {
      parts.push_back({p.down, {D, F}});
    } else {
      for (ForeignTensor& tensor : up(p, F)) parts.push_back(std::move(tensor));
    }
  }
  return parts;
}

}  // namespace mmoe
