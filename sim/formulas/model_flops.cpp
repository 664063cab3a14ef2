#include "sim/formulas/model_flops.h"

#include <numeric>

#include "sim/units/errors.h"

namespace mmoe {

Flops matmul_flops(double m, double n, double k) { return Flops{2 * m * n * k}; }

double causal_pairs(double seq_len) { return seq_len * (seq_len + 1) / 2; }

Flops qkv_flops(const ModelConfig& model, double tokens) {
  return matmul_flops(tokens, static_cast<double>(model.query_size() + 2 * model.kv_size()),
                      static_cast<double>(model.hidden_size));
}

Flops attention_output_flops(const ModelConfig& model, double tokens) {
  return matmul_flops(tokens, static_cast<double>(model.hidden_size), static_cast<double>(model.query_size()));
}

Flops router_flops(const ModelConfig& model, double tokens) {
  return matmul_flops(tokens, static_cast<double>(model.num_experts), static_cast<double>(model.hidden_size));
}

Flops swiglu_flops(double tokens, double hidden_size, double width) {
  return matmul_flops(tokens, 2 * width, hidden_size) + matmul_flops(tokens, hidden_size, width);
}

Flops experts_flops(const ModelConfig& model, double pairs) {
  return swiglu_flops(pairs, static_cast<double>(model.hidden_size), static_cast<double>(model.expert_hidden_size));
}

Flops head_flops(const ModelConfig& model, double tokens) {
  return matmul_flops(tokens, static_cast<double>(model.vocab_size), static_cast<double>(model.hidden_size));
}

Flops attention_flops(const ModelConfig& model, double seq_len, double num_sequences) {
  const double pairs = num_sequences * static_cast<double>(model.num_heads) * causal_pairs(seq_len);
  return 2 * matmul_flops(pairs, 1, static_cast<double>(model.head_dim));
}

ForwardFlops forward_flops(const ModelConfig& model, double seq_len, double num_sequences) {
  const double tokens = seq_len * num_sequences;
  const double layers = static_cast<double>(model.num_layers);
  const double moe_layers = static_cast<double>(model.num_moe_layers());
  const double hidden = static_cast<double>(model.hidden_size);
  ForwardFlops flops;
  flops.fixed = layers * (qkv_flops(model, tokens) + attention_flops(model, seq_len, num_sequences) +
                          attention_output_flops(model, tokens)) +
                head_flops(model, tokens);
  flops.fixed += (layers - moe_layers) * swiglu_flops(tokens, hidden, static_cast<double>(model.dense_hidden_size));
  flops.fixed += moe_layers * (router_flops(model, tokens) +
                               swiglu_flops(tokens, hidden, static_cast<double>(model.shared_expert_hidden_size)));
  flops.per_k = experts_flops(model, tokens);
  return flops;
}

Flops model_step_flops(const ModelConfig& model, double seq_len, double global_batch_size, double sum_k) {
  return 3 * forward_flops(model, seq_len, global_batch_size).total(sum_k);
}

Flops allocation_flops_per_token(const ModelConfig& model, double seq_len, const std::vector<int>& k_per_layer) {
  MMOE_CHECK(static_cast<int64_t>(k_per_layer.size()) == model.num_moe_layers());
  const double sum_k = std::accumulate(k_per_layer.begin(), k_per_layer.end(), 0.0);
  return forward_flops(model, seq_len, 1).total(sum_k) / seq_len;
}

}  // namespace mmoe
