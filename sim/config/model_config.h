#pragma once
// The shape of a decoder-only transformer with dense or mixture-of-experts feed-forward layers.

#include <cstdint>
#include <string>

namespace mmoe {

// RMS normalisation of queries and keys: of each head alone (Qwen3) or of all heads of a token together (OLMoE).
enum class QkNorm { kNone, kPerHead, kFull };

// How queries, keys and values are made: by grouped-query attention, or by multi-head latent attention (DeepSeek-V2,
// arXiv 2405.04434), which projects them up from compressed vectors.
enum class AttentionKind { kGrouped, kLatent };

// Feed-forward function of dense layers and experts; SwiGLU has a gate beside the up projection.
enum class Activation { kSwiGlu, kGelu, kSquaredRelu };

enum class NormKind { kRms, kLayer };
enum class PositionKind { kRotary, kLearned, kNone };

// What the routing weights of the selected experts are divided by: nothing, the sum of the selected
// probabilities, or the sum of the `elastic.k_reference` largest ones.
enum class GateNormalization { kNone, kSelected, kReference };

struct ModelConfig {
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // default: num_heads
  int64_t head_dim = 0;      // of queries and keys; default: hidden_size / num_heads
  int64_t vocab_size = 0;
  int64_t num_experts = 0;         // routed experts of each MoE layer; 0: a dense model
  int64_t expert_hidden_size = 0;  // width of one routed expert
  int64_t shared_expert_hidden_size = 0;
  int64_t num_dense_layers = 0;   // the first layers are dense
  int64_t dense_hidden_size = 0;  // width of a dense layer's feed-forward
  int64_t top_k = 0;              // for jobs without `elastic`
  // Node-limited routing (DeepSeek-V3, arXiv 2412.19437, section 2.1.2): the experts lie in n_group groups of equal
  // size, one after the other, and all experts of a token in topk_group of them. The names are those of config.json.
  int64_t n_group = 1, topk_group = 1;
  bool tie_embeddings = false;
  double rope_theta = 10000;
  double rms_norm_eps = 1e-5;
  QkNorm qk_norm = QkNorm::kNone;
  GateNormalization gate_normalization = GateNormalization::kNone;
  AttentionKind attention = AttentionKind::kGrouped;
  int64_t q_lora_rank = 0;       // latent attention: width of the compressed queries; 0: not compressed
  int64_t kv_lora_rank = 0;      // latent attention: width of the compressed keys and values
  int64_t qk_rope_head_dim = 0;  // latent attention: part of head_dim that is rotated; its key is shared by all heads
  int64_t v_head_dim = 0;        // latent attention: head size of the values; default: head_dim
  Activation activation = Activation::kSwiGlu;
  NormKind norm = NormKind::kRms;
  PositionKind position = PositionKind::kRotary;
  int64_t max_position_embeddings = 0;  // learned positions: rows of their table
  bool linear_bias = false;             // every projection has a bias
  bool qkv_bias = false;                // queries, keys and values have one (Qwen2)
  bool shared_expert_gate = false;      // Qwen2-MoE
  int64_t num_mtp_layers = 0;           // multi-token prediction (DeepSeek-V3, arXiv 2412.19437)

  int64_t num_moe_layers() const { return num_experts > 0 ? num_layers - num_dense_layers : 0; }
  bool limits_groups() const { return topk_group < n_group; }
  bool is_moe_layer(int64_t layer) const { return num_experts > 0 && layer >= num_dense_layers; }
  int64_t query_size() const { return num_heads * head_dim; }
  int64_t kv_size() const { return num_kv_heads * head_dim; }
  int64_t value_head_dim() const { return v_head_dim > 0 ? v_head_dim : head_dim; }
  // Width of the attention's output before its projection.
  int64_t attention_output_size() const { return num_heads * value_head_dim(); }
  // Projections into the feed-forward width: 2 with a gate, else 1.
  int64_t up_projections() const { return activation == Activation::kSwiGlu ? 2 : 1; }

  // Throws ConfigError naming the field ("model.num_kv_heads"), its value and the rule it breaks.
  void validate(const std::string& where) const;
};

}  // namespace mmoe
