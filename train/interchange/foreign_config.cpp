#include "train/interchange/foreign_config.h"

#include "sim/config/enum_names.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr int64_t kZeroSharedWidth = 64;

struct Class {
  const char *model_type, *name;
};

Class class_of(const ModelConfig& model, const std::string& where) {
  const auto refuse = [&](const std::string& what) -> Class {
    throw ConfigError(where + ": " + what + ", and no stock class of transformers computes that");
  };
  if (model.qkv_bias && model.qk_norm != QkNorm::kNone) return refuse("model.qkv_bias stands beside model.qk_norm");
  if (model.num_experts == 0) {
    if (model.qk_norm == QkNorm::kFull) return refuse("a dense model has model.qk_norm = full");
    if (model.qk_norm == QkNorm::kPerHead) return {"qwen3", "Qwen3ForCausalLM"};
    return model.qkv_bias ? Class{"qwen2", "Qwen2ForCausalLM"} : Class{"llama", "LlamaForCausalLM"};
  }
  const bool selected = model.gate_normalization == GateNormalization::kSelected;
  if (model.gate_normalization == GateNormalization::kReference) {
    return refuse("model.gate_normalization is reference");
  }
  const bool shared = model.shared_expert_hidden_size > 0;
  if (shared && !model.shared_expert_gate) return refuse("the shared expert has no gate (model.shared_expert_gate)");
  if (model.qk_norm == QkNorm::kNone) {
    const bool mixtral = selected && !shared && !model.qkv_bias && model.num_dense_layers == 0;
    return mixtral ? Class{"mixtral", "MixtralForCausalLM"} : Class{"qwen2_moe", "Qwen2MoeForCausalLM"};
  }
  if (shared) return refuse("a shared expert stands beside model.qk_norm");
  if (model.qk_norm == QkNorm::kPerHead) return {"qwen3_moe", "Qwen3MoeForCausalLM"};
  if (model.num_dense_layers > 0) return refuse("model.num_dense_layers is above 0 with model.qk_norm = full");
  return {"olmoe", "OlmoeForCausalLM"};
}

const char* type_name(at::ScalarType type) {
  return type == at::kBFloat16 ? "bfloat16" : type == at::kDouble ? "float64" : "float32";
}

}  // namespace

ForeignModel foreign_model(const Job& job, int top_k, at::ScalarType type, const nlohmann::json& imported) {
  ForeignModel result;
  result.model = job.model;
  ModelConfig& model = result.model;
  const Class found = class_of(model, job.where);
  result.model_type = found.model_type;
  const bool qwen2_moe = result.model_type == "qwen2_moe", mixtral = result.model_type == "mixtral";
  if (mixtral) result.naming = TensorNaming::kMixtral;
  if (qwen2_moe && model.shared_expert_hidden_size == 0) {
    result.zero_shared_expert = model.shared_expert_gate = true;
    model.shared_expert_hidden_size = kZeroSharedWidth;
  }
  nlohmann::ordered_json& c = result.config;
  c["architectures"] = {found.name};
  c["model_type"] = found.model_type;
  c["dtype"] = type_name(type);
  c["hidden_size"] = model.hidden_size;
  c["num_hidden_layers"] = model.num_layers;
  c["num_attention_heads"] = model.num_heads;
  c["num_key_value_heads"] = model.num_kv_heads;
  c["head_dim"] = model.head_dim;
  c["vocab_size"] = model.vocab_size;
  c["tie_word_embeddings"] = model.tie_embeddings;
  c["rms_norm_eps"] = model.rms_norm_eps;
  c["rope_theta"] = model.rope_theta;  // read by transformers 4
  c["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", model.rope_theta}};
  c["max_position_embeddings"] = job.training.seq_len;
  c["hidden_act"] = "silu";
  c["attention_dropout"] = 0.0;
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings"}) {
    if (imported.contains(key)) c[key] = imported[key];
  }
  // Defaults of the classes name tokens that a small vocabulary does not have.
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (!c.contains(key)) c[key] = nullptr;
  }
  if (result.model_type == "llama" || result.model_type == "qwen3" || result.model_type == "qwen3_moe" ||
      result.model_type == "olmoe") {
    c["attention_bias"] = false;
  }
  const bool fused_width = mixtral || result.model_type == "olmoe";
  c["intermediate_size"] = fused_width                   ? model.expert_hidden_size
                           : model.dense_hidden_size > 0 ? model.dense_hidden_size
                                                         : model.expert_hidden_size;
  if (model.num_experts == 0) return result;
  c["num_experts"] = model.num_experts;
  c["num_local_experts"] = model.num_experts;
  c["num_experts_per_tok"] = top_k;
  c["norm_topk_prob"] = model.gate_normalization == GateNormalization::kSelected;
  c["output_router_logits"] = false;
  c["router_aux_loss_coef"] = job.training.load_balance_coefficient;
  if (fused_width) return result;
  c["moe_intermediate_size"] = model.expert_hidden_size;
  c["decoder_sparse_step"] = 1;
  c["mlp_only_layers"] = nlohmann::json::array();
  for (int64_t layer = 0; layer < model.num_dense_layers; ++layer) c["mlp_only_layers"].push_back(layer);
  c["use_sliding_window"] = false;
  c["sliding_window"] = nullptr;
  if (qwen2_moe) {
    c["shared_expert_intermediate_size"] = model.shared_expert_hidden_size;
    c["qkv_bias"] = model.qkv_bias;
  }
  return result;
}

}  // namespace mmoe
