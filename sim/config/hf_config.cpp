#include "sim/config/hf_config.h"

#include <algorithm>
#include <filesystem>

#include "sim/config/sections.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

constexpr int64_t kMax = 1 << 26;

// A config.json holds many keys that have no bearing here, so unknown ones are no error; null is "not there".
class HfReader {
 public:
  HfReader(const nlohmann::json& json, const std::string& where)
      : json_(without_nulls(json, where)), reader_(json_, where, "", nullptr) {}

  bool has(const std::string& key) { return reader_.find(key) != nullptr; }
  int64_t size(const std::string& key, int64_t fallback) {
    reader_.read(key, fallback, 0, kMax);
    return fallback;
  }
  int64_t size(const std::string& key) {
    reader_.require(key, "a config.json of this architecture has it; is the file complete?");
    return size(key, 0);
  }
  double number(const std::string& key, double fallback) {
    reader_.read(key, fallback, 0, 1e15);
    return fallback;
  }
  bool flag(const std::string& key, bool fallback) {
    reader_.read(key, fallback);
    return fallback;
  }
  std::string text(const std::string& key, std::string fallback) {
    reader_.read(key, fallback);
    return fallback;
  }
  // At the top, or since transformers 5 in rope_parameters.
  double rope_theta() {
    double theta = number("rope_theta", 10000);
    if (has("rope_parameters")) reader_.child("rope_parameters").read("rope_theta", theta, 1, 1e12);
    return theta;
  }
  std::vector<int64_t> list(const std::string& key) {
    std::vector<int64_t> items;
    reader_.read(key, items);
    return items;
  }
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const { reader_.fail(key, why); }
  JsonReader& reader() { return reader_; }

 private:
  static nlohmann::json without_nulls(const nlohmann::json& json, const std::string& where) {
    JsonReader check(json, where, "", nullptr);
    nlohmann::json kept = nlohmann::json::object();
    for (const auto& [key, value] : json.items()) {
      if (!value.is_null()) kept[key] = value;
    }
    return kept;
  }
  nlohmann::json json_;
  JsonReader reader_;
};

void refuse_what_is_not_modelled(HfReader& hf) {
  if (hf.has("sliding_window") && hf.flag("use_sliding_window", true)) {
    hf.refuse("sliding_window", "is not modelled; take it out to plan with full causal attention");
  }
  if (hf.has("clip_qkv")) hf.refuse("clip_qkv", "is not modelled; take it out if the model is trained without it");
}

void read_attention(HfReader& hf, ModelConfig& model) {
  model.hidden_size = hf.size("hidden_size");
  model.num_layers = hf.size("num_hidden_layers");
  model.num_heads = hf.size("num_attention_heads");
  model.num_kv_heads = hf.size("num_key_value_heads", model.num_heads);
  model.head_dim = hf.size("head_dim", 0);
  model.vocab_size = hf.size("vocab_size");
  model.tie_embeddings = hf.flag("tie_word_embeddings", false);
  model.rope_theta = hf.rope_theta();
  model.rms_norm_eps = hf.number("rms_norm_eps", 1e-6);
  // These families have a gate beside the up projection, whatever the function.
  if (hf.text("hidden_act", "silu") != "silu")
    hf.refuse("hidden_act", "is not modelled with a gate; only silu (SwiGLU) is");
}

// GPT-2 and GPT-3 shapes: layer norms, biases, learned positions, a feed-forward of 4 hidden sizes.
void read_gpt2(HfReader& hf, ModelConfig& model) {
  model.hidden_size = hf.size("n_embd");
  model.num_layers = hf.size("n_layer");
  model.num_heads = hf.size("n_head");
  model.vocab_size = hf.size("vocab_size");
  model.dense_hidden_size = hf.size("n_inner", 4 * model.hidden_size);
  model.max_position_embeddings = hf.size("n_positions", 1024);
  model.tie_embeddings = hf.flag("tie_word_embeddings", true);
  model.rms_norm_eps = hf.number("layer_norm_epsilon", 1e-5);
  const std::string function = hf.text("activation_function", "gelu_new");
  if (!function.starts_with("gelu")) hf.refuse("activation_function", "is not modelled; gelu is");
  model.activation = Activation::kGelu;
  model.norm = NormKind::kLayer;
  model.position = PositionKind::kLearned;
  model.linear_bias = true;
}

GateNormalization selected_if(bool normalized) {
  return normalized ? GateNormalization::kSelected : GateNormalization::kNone;
}

// Qwen: layer i is MoE unless mlp_only_layers lists it or decoder_sparse_step does not divide i + 1. Only dense
// layers at the start can be expressed.
int64_t leading_dense_layers(HfReader& hf, int64_t num_layers) {
  const std::vector<int64_t> listed = hf.list("mlp_only_layers");
  const int64_t step = std::max<int64_t>(hf.size("decoder_sparse_step", 1), 1);
  const auto dense = [&](int64_t layer) {
    return (layer + 1) % step != 0 || std::find(listed.begin(), listed.end(), layer) != listed.end();
  };
  int64_t leading = 0;
  while (leading < num_layers && dense(leading)) ++leading;
  for (int64_t layer = leading; layer < num_layers; ++layer) {
    if (dense(layer)) {
      hf.refuse(listed.empty() ? "decoder_sparse_step" : "mlp_only_layers",
                "puts dense layers between or after MoE layers; only dense layers at the start are modelled");
    }
  }
  return leading;
}

void read_llama(HfReader& hf, ModelConfig& model) { model.dense_hidden_size = hf.size("intermediate_size"); }

void read_mixtral(HfReader& hf, ModelConfig& model) {
  model.num_experts = hf.size("num_local_experts");
  model.top_k = hf.size("num_experts_per_tok", 2);
  model.expert_hidden_size = hf.size("intermediate_size");
  model.gate_normalization = GateNormalization::kSelected;
}

void read_qwen_moe(HfReader& hf, ModelConfig& model) {
  // transformers 5 writes Qwen3-MoE's number under Mixtral's name.
  model.num_experts = hf.size(hf.has("num_local_experts") ? "num_local_experts" : "num_experts");
  model.top_k = hf.size("num_experts_per_tok");
  model.expert_hidden_size = hf.size("moe_intermediate_size");
  model.gate_normalization = selected_if(hf.flag("norm_topk_prob", false));
  model.num_dense_layers = leading_dense_layers(hf, model.num_layers);
  if (model.num_dense_layers > 0) model.dense_hidden_size = hf.size("intermediate_size");
}

void read_qwen2_moe(HfReader& hf, ModelConfig& model) {
  read_qwen_moe(hf, model);
  model.qkv_bias = hf.flag("qkv_bias", true);
  model.shared_expert_hidden_size = hf.size("shared_expert_intermediate_size");
  model.shared_expert_gate = true;
}

void read_qwen2(HfReader& hf, ModelConfig& model) {
  model.qkv_bias = true;
  model.dense_hidden_size = hf.size("intermediate_size");
}

void read_qwen3(HfReader& hf, ModelConfig& model) {
  model.qk_norm = QkNorm::kPerHead;
  if (model.head_dim == 0) model.head_dim = 128;
  model.dense_hidden_size = hf.size("intermediate_size");
}

void read_qwen3_moe(HfReader& hf, ModelConfig& model) {
  read_qwen_moe(hf, model);
  model.qk_norm = QkNorm::kPerHead;
}

void read_olmoe(HfReader& hf, ModelConfig& model) {
  model.num_experts = hf.size("num_experts", 64);
  model.top_k = hf.size("num_experts_per_tok", 8);
  model.expert_hidden_size = hf.size("intermediate_size");
  model.gate_normalization = selected_if(hf.flag("norm_topk_prob", false));
  model.qk_norm = QkNorm::kFull;
  if (!hf.has("rms_norm_eps")) model.rms_norm_eps = 1e-5;
}

void read_deepseek(HfReader& hf, ModelConfig& model) {
  if (hf.has("kv_lora_rank")) {
    model.attention = AttentionKind::kLatent;
    model.kv_lora_rank = hf.size("kv_lora_rank");
    model.q_lora_rank = hf.size("q_lora_rank", 0);
    model.qk_rope_head_dim = hf.size("qk_rope_head_dim");
    model.head_dim = hf.size("qk_nope_head_dim") + model.qk_rope_head_dim;
    model.v_head_dim = hf.size("v_head_dim");
    model.num_kv_heads = model.num_heads;
  }
  model.num_mtp_layers = hf.size("num_nextn_predict_layers", 0);
  model.num_dense_layers = hf.size("first_k_dense_replace", 0);
  model.dense_hidden_size = hf.size("intermediate_size");
  if (!hf.has("n_routed_experts")) return;
  model.num_experts = hf.size("n_routed_experts");
  model.top_k = hf.size("num_experts_per_tok");
  model.expert_hidden_size = hf.size("moe_intermediate_size");
  model.shared_expert_hidden_size = hf.size("n_shared_experts", 0) * model.expert_hidden_size;
  model.gate_normalization = selected_if(hf.flag("norm_topk_prob", false));
  if (hf.text("topk_method", "noaux_tc") != "greedy") {  // DeepSeek-V2-Lite's: over all experts, whatever the groups
    model.n_group = hf.size("n_group", 1);
    model.topk_group = hf.size("topk_group", 1);
  }
  if (hf.size("moe_layer_freq", 1) != 1) {
    hf.refuse("moe_layer_freq", "puts dense layers between MoE layers; only dense layers at the start are modelled");
  }
}

struct Architecture {
  const char* type;
  void (*read)(HfReader&, ModelConfig&);
};
constexpr Architecture kArchitectures[] = {
    {"llama", read_llama},          {"gpt2", read_gpt2},           {"qwen2", read_qwen2}, {"mixtral", read_mixtral},
    {"qwen2_moe", read_qwen2_moe},  {"qwen3", read_qwen3},         {"olmoe", read_olmoe}, {"qwen3_moe", read_qwen3_moe},
    {"deepseek_v2", read_deepseek}, {"deepseek_v3", read_deepseek}};

}  // namespace

ModelConfig parse_hf_config(const nlohmann::json& json, const std::string& where, HfSizes sizes) {
  HfReader hf(json, where);
  hf.reader().require("model_type", "is this a Hugging Face config.json of a language model?");
  const std::string type = hf.text("model_type", "");
  for (const Architecture& architecture : kArchitectures) {
    if (type != architecture.type) continue;
    ModelConfig model;
    refuse_what_is_not_modelled(hf);
    if (type != "gpt2") read_attention(hf, model);
    architecture.read(hf, model);
    if (sizes == HfSizes::kComplete) complete_model(model);
    return model;
  }
  std::vector<std::string> known;
  for (const Architecture& architecture : kArchitectures) known.emplace_back(architecture.type);
  hf.refuse("model_type", "is not supported; supported are " + join(known));
}

ModelConfig load_hf_config(const std::string& path, HfSizes sizes) {
  namespace fs = std::filesystem;
  std::error_code error;
  const std::string file = fs::is_directory(path, error) ? (fs::path(path) / "config.json").string() : path;
  const ModelConfig model = parse_hf_config(read_json_file(file), file, sizes);
  if (sizes == HfSizes::kComplete) model.validate(file);
  return model;
}

}  // namespace mmoe
