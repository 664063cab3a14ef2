#include "sim/formulas/parameter_counts.h"

namespace mmoe {
namespace {

double size(int64_t value) { return static_cast<double>(value); }

// Biases of a projection into `width` columns.
double bias(const ModelConfig& model, double width) { return model.linear_bias ? width : 0; }

double norm_weights_of(const ModelConfig& model, double width) {
  return model.norm == NormKind::kLayer ? 2 * width : width;
}

// Latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): queries and keys with values are compressed,
// normalised and projected up; the rotated part of the key is one for all heads.
double latent_attention_weights(const ModelConfig& model) {
  const double D = size(model.hidden_size), query = size(model.query_size());
  const double rank_q = size(model.q_lora_rank), rank_kv = size(model.kv_lora_rank);
  const double unrotated = size(model.num_heads * (model.head_dim - model.qk_rope_head_dim));
  const double queries = model.q_lora_rank > 0 ? D * rank_q + rank_q * query : D * query;
  return queries + D * (rank_kv + size(model.qk_rope_head_dim)) +
         rank_kv * (unrotated + size(model.attention_output_size())) + size(model.attention_output_size()) * D;
}

double attention_weights(const ModelConfig& model) {
  if (model.attention == AttentionKind::kLatent) return latent_attention_weights(model);
  const double D = size(model.hidden_size), query = size(model.query_size()), kv = size(model.kv_size());
  const double biases = model.linear_bias ? query + 2 * kv + D : model.qkv_bias ? query + 2 * kv : 0;
  return D * (query + 2 * kv) + query * D + biases;
}

double norm_weights(const ModelConfig& model) {
  double weights = 2 * norm_weights_of(model, size(model.hidden_size));
  if (model.attention == AttentionKind::kLatent) {
    weights += norm_weights_of(model, size(model.q_lora_rank)) + norm_weights_of(model, size(model.kv_lora_rank));
  }
  if (model.qk_norm == QkNorm::kPerHead) weights += 2 * norm_weights_of(model, size(model.head_dim));
  if (model.qk_norm == QkNorm::kFull) weights += norm_weights_of(model, size(model.query_size() + model.kv_size()));
  return weights;
}

double mlp_weights(const ModelConfig& model, int64_t width) {
  if (width == 0) return 0;
  const double up = size(model.up_projections() * width), D = size(model.hidden_size);
  return D * up + bias(model, up) + size(width) * D + bias(model, D);
}

double router_weights(const ModelConfig& model) { return size(model.hidden_size * model.num_experts); }

double shared_expert_weights(const ModelConfig& model) {
  return mlp_weights(model, model.shared_expert_hidden_size) + (model.shared_expert_gate ? size(model.hidden_size) : 0);
}

}  // namespace

double expert_parameters(const ModelConfig& model) { return mlp_weights(model, model.expert_hidden_size); }

ParameterCounts parameter_counts(const ModelConfig& model) {
  const double layers = static_cast<double>(model.num_layers);
  const double moe_layers = static_cast<double>(model.num_moe_layers());
  const double table = static_cast<double>(model.vocab_size) * static_cast<double>(model.hidden_size);
  ParameterCounts counts;
  counts.embedding = table;
  counts.attention = layers * attention_weights(model);
  counts.router = moe_layers * router_weights(model);
  counts.experts = moe_layers * static_cast<double>(model.num_experts) * expert_parameters(model);
  counts.shared_expert = moe_layers * shared_expert_weights(model);
  counts.dense_mlp = (layers - moe_layers) * mlp_weights(model, model.dense_hidden_size);
  counts.norms = layers * norm_weights(model) + norm_weights_of(model, size(model.hidden_size));
  if (model.position == PositionKind::kLearned)
    counts.embedding += size(model.max_position_embeddings * model.hidden_size);
  counts.multi_token = static_cast<double>(model.num_mtp_layers) * multi_token_parameters(model);
  counts.head = model.tie_embeddings ? 0 : table;
  return counts;
}

double active_parameters(const ModelConfig& model, double k) {
  const ParameterCounts counts = parameter_counts(model);
  return counts.total() - counts.experts + static_cast<double>(model.num_moe_layers()) * k * expert_parameters(model);
}

// Each depth of multi-token prediction (DeepSeek-V3, arXiv:2412.19437, section 2.2): one more layer, a projection of
// two hidden vectors to one, and norms of both and of the output; embedding and head are shared.
double multi_token_parameters(const ModelConfig& model) {
  const double D = size(model.hidden_size);
  return layer_parameters(model, model.num_layers - 1) + 2 * D * D + 3 * norm_weights_of(model, D);
}

double layer_parameters(const ModelConfig& model, int64_t layer) {
  const double shared = attention_weights(model) + norm_weights(model);
  if (!model.is_moe_layer(layer)) return shared + mlp_weights(model, model.dense_hidden_size);
  return shared + router_weights(model) + static_cast<double>(model.num_experts) * expert_parameters(model) +
         shared_expert_weights(model);
}

}  // namespace mmoe
