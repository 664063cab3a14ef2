#include "sim/formulas/parameter_counts.h"

namespace mmoe {
namespace {

double attention_weights(const ModelConfig& model) {
  const double D = static_cast<double>(model.hidden_size);
  const double query = static_cast<double>(model.query_size()), kv = static_cast<double>(model.kv_size());
  return D * (query + 2 * kv) + query * D;
}

double norm_weights(const ModelConfig& model) {
  double weights = 2 * static_cast<double>(model.hidden_size);
  if (model.qk_norm == QkNorm::kPerHead) weights += 2 * static_cast<double>(model.head_dim);
  if (model.qk_norm == QkNorm::kFull) weights += static_cast<double>(model.query_size() + model.kv_size());
  return weights;
}

double swiglu_weights(const ModelConfig& model, int64_t width) {
  return 3 * static_cast<double>(model.hidden_size) * static_cast<double>(width);
}

double router_weights(const ModelConfig& model) {
  return static_cast<double>(model.hidden_size) * static_cast<double>(model.num_experts);
}

}  // namespace

double expert_parameters(const ModelConfig& model) { return swiglu_weights(model, model.expert_hidden_size); }

ParameterCounts parameter_counts(const ModelConfig& model) {
  const double layers = static_cast<double>(model.num_layers);
  const double moe_layers = static_cast<double>(model.num_moe_layers());
  const double table = static_cast<double>(model.vocab_size) * static_cast<double>(model.hidden_size);
  ParameterCounts counts;
  counts.embedding = table;
  counts.attention = layers * attention_weights(model);
  counts.router = moe_layers * router_weights(model);
  counts.experts = moe_layers * static_cast<double>(model.num_experts) * expert_parameters(model);
  counts.shared_expert = moe_layers * swiglu_weights(model, model.shared_expert_hidden_size);
  counts.dense_mlp = (layers - moe_layers) * swiglu_weights(model, model.dense_hidden_size);
  counts.norms = layers * norm_weights(model) + static_cast<double>(model.hidden_size);
  counts.head = model.tie_embeddings ? 0 : table;
  return counts;
}

double active_parameters(const ModelConfig& model, double k) {
  const ParameterCounts counts = parameter_counts(model);
  return counts.total() - counts.experts + static_cast<double>(model.num_moe_layers()) * k * expert_parameters(model);
}

double layer_parameters(const ModelConfig& model, int64_t layer) {
  const double shared = attention_weights(model) + norm_weights(model);
  if (!model.is_moe_layer(layer)) return shared + swiglu_weights(model, model.dense_hidden_size);
  return shared + router_weights(model) + static_cast<double>(model.num_experts) * expert_parameters(model) +
         swiglu_weights(model, model.shared_expert_hidden_size);
}

}  // namespace mmoe
