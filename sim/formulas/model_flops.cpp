#include "sim/formulas/model_flops.h"

#include <numeric>

#include "sim/units/errors.h"

namespace mmoe {

Flops matmul_flops(double m, double n, double k) { return Flops{2 * m * n * k}; }

double causal_pairs(double seq_len) { return seq_len * (seq_len + 1) / 2; }

Flops qkv_flops(const ModelConfig& model, double tokens) {
  if (model.attention == AttentionKind::kLatent) {
    const double D = static_cast<double>(model.hidden_size), query = static_cast<double>(model.query_size());
    const double rank_q = static_cast<double>(model.q_lora_rank), rank_kv = static_cast<double>(model.kv_lora_rank);
    const double unrotated = static_cast<double>(model.num_heads * (model.head_dim - model.qk_rope_head_dim));
    const Flops queries = model.q_lora_rank > 0 ? matmul_flops(tokens, rank_q, D) + matmul_flops(tokens, query, rank_q)
                                                : matmul_flops(tokens, query, D);
    return queries + matmul_flops(tokens, rank_kv + static_cast<double>(model.qk_rope_head_dim), D) +
           matmul_flops(tokens, unrotated + static_cast<double>(model.attention_output_size()), rank_kv);
  }
  return matmul_flops(tokens, static_cast<double>(model.query_size() + 2 * model.kv_size()),
                      static_cast<double>(model.hidden_size));
}

Flops attention_output_flops(const ModelConfig& model, double tokens) {
  return matmul_flops(tokens, static_cast<double>(model.hidden_size),
                      static_cast<double>(model.attention_output_size()));
}

Flops router_flops(const ModelConfig& model, double tokens) {
  return matmul_flops(tokens, static_cast<double>(model.num_experts), static_cast<double>(model.hidden_size));
}

Flops mlp_flops(const ModelConfig& model, double tokens, double width) {
  const double hidden = static_cast<double>(model.hidden_size);
  return matmul_flops(tokens, static_cast<double>(model.up_projections()) * width, hidden) +
         matmul_flops(tokens, hidden, width);
}

Flops experts_flops(const ModelConfig& model, double pairs) {
  return mlp_flops(model, pairs, static_cast<double>(model.expert_hidden_size));
}

Flops head_flops(const ModelConfig& model, double tokens) {
  return matmul_flops(tokens, static_cast<double>(model.vocab_size), static_cast<double>(model.hidden_size));
}

Flops attention_flops(const ModelConfig& model, double seq_len, double num_sequences) {
  const double pairs = num_sequences * static_cast<double>(model.num_heads) * causal_pairs(seq_len);
  return matmul_flops(pairs, 1, static_cast<double>(model.head_dim + model.value_head_dim()));
}

Flops multi_token_flops(const ModelConfig& model, double seq_len, double num_sequences) {
  const double tokens = seq_len * num_sequences, hidden = static_cast<double>(model.hidden_size);
  Flops flops = matmul_flops(tokens, hidden, 2 * hidden) + qkv_flops(model, tokens) +
                attention_flops(model, seq_len, num_sequences) + attention_output_flops(model, tokens) +
                head_flops(model, tokens);
  if (!model.is_moe_layer(model.num_layers - 1)) {
    return flops + mlp_flops(model, tokens, static_cast<double>(model.dense_hidden_size));
  }
  return flops + router_flops(model, tokens) +
         mlp_flops(model, tokens, static_cast<double>(model.shared_expert_hidden_size)) +
         static_cast<double>(model.top_k) * experts_flops(model, tokens);
}

ForwardFlops forward_flops(const ModelConfig& model, double seq_len, double num_sequences) {
  const double tokens = seq_len * num_sequences;
  const double layers = static_cast<double>(model.num_layers);
  const double moe_layers = static_cast<double>(model.num_moe_layers());
  ForwardFlops flops;
  flops.fixed = layers * (qkv_flops(model, tokens) + attention_flops(model, seq_len, num_sequences) +
                          attention_output_flops(model, tokens)) +
                head_flops(model, tokens);
  flops.fixed += (layers - moe_layers) * mlp_flops(model, tokens, static_cast<double>(model.dense_hidden_size));
  flops.fixed += moe_layers * (router_flops(model, tokens) +
                               mlp_flops(model, tokens, static_cast<double>(model.shared_expert_hidden_size)));
  flops.per_k = experts_flops(model, tokens);
  flops.fixed += static_cast<double>(model.num_mtp_layers) * multi_token_flops(model, seq_len, num_sequences);
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
