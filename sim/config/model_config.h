#pragma once
// The shape of a decoder-only transformer with dense or mixture-of-experts feed-forward layers.

#include <cstdint>
#include <string>

namespace mmoe {

// RMS normalisation of queries and keys: of each head alone (Qwen3) or of all heads of a token together (OLMoE).
enum class QkNorm { kNone, kPerHead, kFull };

// What the routing weights of the selected experts are divided by: nothing, the sum of the selected
// probabilities, or the sum of the `elastic.k_reference` largest ones.
enum class GateNormalization { kNone, kSelected, kReference };

struct ModelConfig {
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // default: num_heads
  int64_t head_dim = 0;      // default: hidden_size / num_heads
  int64_t vocab_size = 0;
  int64_t num_experts = 0;         // routed experts of each MoE layer; 0: a dense model
  int64_t expert_hidden_size = 0;  // SwiGLU width of one routed expert
  int64_t shared_expert_hidden_size = 0;
  int64_t num_dense_layers = 0;   // the first layers are dense
  int64_t dense_hidden_size = 0;  // SwiGLU width of a dense layer
  int64_t top_k = 0;              // for jobs without `elastic`
  bool tie_embeddings = false;
  double rope_theta = 10000;
  double rms_norm_eps = 1e-5;
  QkNorm qk_norm = QkNorm::kNone;
  GateNormalization gate_normalization = GateNormalization::kNone;

  int64_t num_moe_layers() const { return num_experts > 0 ? num_layers - num_dense_layers : 0; }
  bool is_moe_layer(int64_t layer) const { return num_experts > 0 && layer >= num_dense_layers; }
  int64_t query_size() const { return num_heads * head_dim; }
  int64_t kv_size() const { return num_kv_heads * head_dim; }

  // Throws ConfigError naming the field ("model.num_kv_heads"), its value and the rule it breaks.
  void validate(const std::string& where) const;
};

}  // namespace mmoe
