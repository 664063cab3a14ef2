#include "sim/config/model_config.h"

#include "sim/config/hf_config.h"
#include "sim/config/model_preset.h"
#include "sim/config/sections.h"

namespace mmoe {
namespace {

// Far above any real model, far below what overflows.
constexpr int64_t kMaxWidth = 1 << 22;
constexpr int64_t kMaxLayers = 10000;
constexpr int64_t kMaxHeads = 1 << 16;
constexpr int64_t kMaxVocab = 1 << 26;
constexpr int64_t kMaxExperts = 1 << 16;
constexpr int64_t kMaxTablePositions = 1 << 27;
constexpr double kMaxParameters = 1e15;

// Weights of all layers and embeddings, good to a few per cent: only to catch absurd sizes.
double rough_parameters(const ModelConfig& m) {
  const double hidden = static_cast<double>(m.hidden_size);
  const double attention = hidden * static_cast<double>(2 * m.query_size() + 2 * m.kv_size());
  const double expert = 3 * hidden * static_cast<double>(m.expert_hidden_size);
  const double moe =
      static_cast<double>(m.num_experts) * expert + 3 * hidden * static_cast<double>(m.shared_expert_hidden_size);
  const double dense = 3 * hidden * static_cast<double>(m.dense_hidden_size);
  return static_cast<double>(m.num_layers) * attention + static_cast<double>(m.num_moe_layers()) * moe +
         static_cast<double>(m.num_layers - m.num_moe_layers()) * dense +
         2 * hidden * static_cast<double>(m.vocab_size);
}

}  // namespace

void read_model_keys(JsonReader& section, ModelConfig& model) {
  section.read("hidden_size", model.hidden_size, 1, kMaxWidth);
  section.read("num_layers", model.num_layers, 1, kMaxLayers);
  section.read("num_heads", model.num_heads, 1, kMaxHeads);
  section.read("num_kv_heads", model.num_kv_heads, 1, kMaxHeads);
  section.read("head_dim", model.head_dim, 1, kMaxWidth);
  section.read("vocab_size", model.vocab_size, 1, kMaxVocab);
  section.read("num_experts", model.num_experts, 0, kMaxExperts);
  section.read("expert_hidden_size", model.expert_hidden_size, 0, kMaxWidth);
  section.read("shared_expert_hidden_size", model.shared_expert_hidden_size, 0, kMaxWidth);
  section.read("num_dense_layers", model.num_dense_layers, 0, kMaxLayers);
  section.read("dense_hidden_size", model.dense_hidden_size, 0, kMaxWidth);
  section.read("top_k", model.top_k, 0, kMaxExperts);
  section.read("n_group", model.n_group, 1, kMaxExperts);
  section.read("topk_group", model.topk_group, 1, kMaxExperts);
  section.read("tie_embeddings", model.tie_embeddings);
  section.read("rope_theta", model.rope_theta, 1, 1e12);
  section.read("rms_norm_eps", model.rms_norm_eps, 0, 1);
  section.read_enum("qk_norm", model.qk_norm);
  section.read_enum("gate_normalization", model.gate_normalization);
  section.read_enum("attention", model.attention);
  section.read("q_lora_rank", model.q_lora_rank, 0, kMaxWidth);
  section.read("kv_lora_rank", model.kv_lora_rank, 0, kMaxWidth);
  section.read("qk_rope_head_dim", model.qk_rope_head_dim, 0, kMaxWidth);
  section.read("v_head_dim", model.v_head_dim, 0, kMaxWidth);
  section.read_enum("activation", model.activation);
  section.read_enum("norm", model.norm);
  section.read_enum("position", model.position);
  section.read("max_position_embeddings", model.max_position_embeddings, 0, kMaxTablePositions);
  section.read("linear_bias", model.linear_bias);
  section.read("qkv_bias", model.qkv_bias);
  section.read("shared_expert_gate", model.shared_expert_gate);
  section.read("num_mtp_layers", model.num_mtp_layers, 0, kMaxLayers);
}

void complete_model(ModelConfig& model) {
  if (model.num_kv_heads == 0) model.num_kv_heads = model.num_heads;
  if (model.head_dim == 0 && model.num_heads > 0 && model.hidden_size % model.num_heads == 0) {
    model.head_dim = model.hidden_size / model.num_heads;
  }
  if (model.v_head_dim == 0) model.v_head_dim = model.head_dim;
  if (model.num_experts == 0 && model.num_dense_layers == 0) model.num_dense_layers = model.num_layers;
}

ModelConfig read_model(JsonReader& root, const std::string& folder) {
  const nlohmann::json& value = root.require(
      "model",
      "give a preset's name (mmoe presets lists them), {\"hf_config\": \"config.json\"} or the sizes themselves");
  ModelConfig model;
  if (value.is_string()) {
    model = load_model_preset(value.get<std::string>(), root.where() + ": model");
    complete_model(model);
    return model;
  }
  JsonReader section = root.child("model");
  std::string preset, hf_config;
  section.read("preset", preset);
  section.read("hf_config", hf_config);
  if (!preset.empty() && !hf_config.empty()) section.fail("preset", "and model.hf_config exclude each other; keep one");
  if (!preset.empty()) model = load_model_preset(preset, root.where() + ": model.preset");
  if (!hf_config.empty()) {
    const bool changed = value.size() > 1;  // keys beside hf_config
    model = load_hf_config(resolve_path(hf_config, folder), changed ? HfSizes::kAsWritten : HfSizes::kComplete);
  }
  if (preset.empty() && hf_config.empty()) {
    for (const char* key : {"hidden_size", "num_layers", "num_heads", "vocab_size"}) {
      section.require(key, "a model needs hidden_size, num_layers, num_heads and vocab_size, or hf_config, or preset");
    }
  }
  read_model_keys(section, model);
  section.finish();
  complete_model(model);
  return model;
}

void ModelConfig::validate(const std::string& where) const {
  const auto rule = [&](bool holds, const char* key, int64_t value, const std::string& what) {
    if (!holds) throw ConfigError(about(where, std::string("model.") + key, value) + what);
  };
  const auto text = [](int64_t value) { return std::to_string(value); };
  rule(hidden_size > 0, "hidden_size", hidden_size, "must be at least 1");
  rule(num_layers > 0, "num_layers", num_layers, "must be at least 1");
  rule(num_heads > 0, "num_heads", num_heads, "must be at least 1");
  rule(vocab_size > 0, "vocab_size", vocab_size, "must be at least 1");
  rule(head_dim > 0, "num_heads", num_heads,
       "does not divide model.hidden_size = " + text(hidden_size) + "; " + suggest_divisors(hidden_size, num_heads) +
           ", or give model.head_dim");
  rule(head_dim % 2 == 0, "head_dim", head_dim, "is odd, and rotary embeddings turn pairs of numbers; make it even");
  rule(num_kv_heads > 0 && num_heads % num_kv_heads == 0, "num_kv_heads", num_kv_heads,
       "does not divide model.num_heads = " + text(num_heads) + " (each key-value head serves equally many heads); " +
           suggest_divisors(num_heads, num_kv_heads));
  if (num_experts == 0) {
    rule(top_k == 0, "top_k", top_k, "needs model.num_experts");
    rule(expert_hidden_size == 0, "expert_hidden_size", expert_hidden_size, "needs model.num_experts");
    rule(n_group == 1, "n_group", n_group, "needs model.num_experts");
    rule(topk_group == 1, "topk_group", topk_group, "needs model.num_experts");
    rule(shared_expert_hidden_size == 0, "shared_expert_hidden_size", shared_expert_hidden_size,
         "needs model.num_experts");
    rule(num_dense_layers == num_layers, "num_dense_layers", num_dense_layers,
         "leaves MoE layers, but model.num_experts is 0; give model.num_experts, or leave num_dense_layers out");
  } else {
    rule(expert_hidden_size > 0, "expert_hidden_size", expert_hidden_size,
         "must be at least 1 with model.num_experts = " + text(num_experts) + "; it is the width of one expert");
    rule(top_k <= num_experts, "top_k", top_k, "is above model.num_experts = " + text(num_experts));
    rule(num_experts % n_group == 0, "n_group", n_group,
         "does not divide model.num_experts = " + text(num_experts) + "; groups have the same number of experts");
    rule(topk_group <= n_group, "topk_group", topk_group, "is above model.n_group = " + text(n_group));
    rule(top_k <= num_experts / n_group * topk_group, "top_k", top_k,
         "is more than the " + text(num_experts / n_group * topk_group) +
             " experts of model.topk_group = " + text(topk_group) + " groups; allow more groups");
    rule(num_dense_layers < num_layers, "num_dense_layers", num_dense_layers,
         "leaves no MoE layer of model.num_layers = " + text(num_layers) + "; make it smaller, or num_experts 0");
  }
  rule(num_dense_layers == 0 || dense_hidden_size > 0, "dense_hidden_size", dense_hidden_size,
       "must be at least 1, since " + text(num_dense_layers) + " of the layers are dense");
  const bool latent = attention == AttentionKind::kLatent;
  rule(!latent || kv_lora_rank > 0, "kv_lora_rank", kv_lora_rank, "must be at least 1 with latent attention");
  rule(!latent || (qk_rope_head_dim > 0 && qk_rope_head_dim < head_dim), "qk_rope_head_dim", qk_rope_head_dim,
       "must lie between 1 and model.head_dim = " + text(head_dim) + " less 1 with latent attention");
  rule(!latent || num_kv_heads == num_heads, "num_kv_heads", num_kv_heads,
       "must equal model.num_heads = " + text(num_heads) + " with latent attention; leave it out");
  rule(latent || q_lora_rank + kv_lora_rank + qk_rope_head_dim == 0, "kv_lora_rank", kv_lora_rank,
       "and q_lora_rank, qk_rope_head_dim need model.attention = \"latent\"");
  rule(position != PositionKind::kLearned || max_position_embeddings > 0, "max_position_embeddings",
       max_position_embeddings, "must be at least 1 with learned positions: the rows of their table");
  rule(num_mtp_layers <= num_layers, "num_mtp_layers", num_mtp_layers, "is more than model.num_layers");
  rule(rms_norm_eps > 0, "rms_norm_eps", 0, "must be above 0; 1e-5 is usual");
  if (rough_parameters(*this) > kMaxParameters) {
    throw ConfigError(where + ": model has about " + shown(rough_parameters(*this)) +
                      " parameters, more than 1e15; check hidden_size, num_layers, num_experts and expert_hidden_size");
  }
}

nlohmann::json to_json(const ModelConfig& model) {
  return nlohmann::json{{"hidden_size", model.hidden_size},
                        {"num_layers", model.num_layers},
                        {"num_heads", model.num_heads},
                        {"num_kv_heads", model.num_kv_heads},
                        {"head_dim", model.head_dim},
                        {"vocab_size", model.vocab_size},
                        {"num_experts", model.num_experts},
                        {"expert_hidden_size", model.expert_hidden_size},
                        {"shared_expert_hidden_size", model.shared_expert_hidden_size},
                        {"num_dense_layers", model.num_dense_layers},
                        {"dense_hidden_size", model.dense_hidden_size},
                        {"top_k", model.top_k},
                        {"n_group", model.n_group},
                        {"topk_group", model.topk_group},
                        {"tie_embeddings", model.tie_embeddings},
                        {"rope_theta", model.rope_theta},
                        {"rms_norm_eps", model.rms_norm_eps},
                        {"qk_norm", name_of(model.qk_norm)},
                        {"gate_normalization", name_of(model.gate_normalization)},
                        {"attention", name_of(model.attention)},
                        {"q_lora_rank", model.q_lora_rank},
                        {"kv_lora_rank", model.kv_lora_rank},
                        {"qk_rope_head_dim", model.qk_rope_head_dim},
                        {"v_head_dim", model.v_head_dim},
                        {"activation", name_of(model.activation)},
                        {"norm", name_of(model.norm)},
                        {"position", name_of(model.position)},
                        {"max_position_embeddings", model.max_position_embeddings},
                        {"linear_bias", model.linear_bias},
                        {"qkv_bias", model.qkv_bias},
                        {"shared_expert_gate", model.shared_expert_gate},
                        {"num_mtp_layers", model.num_mtp_layers}};
}

}  // namespace mmoe
