#pragma once
// Numbers of weights of a decoder-only transformer, by kind.

#include "sim/config/model_config.h"

namespace mmoe {

// Numbers of weights of the whole model, biases and norms included.
struct ParameterCounts {
  double embedding = 0;      // V D, and learned positions
  double attention = 0;      // grouped: L (D (H + 2G) h + H h D)
  double router = 0;         // L_moe D E
  double experts = 0;        // L_moe E 3 D F (SwiGLU)
  double shared_expert = 0;  // L_moe 3 D F_shared
  double dense_mlp = 0;      // L_dense 3 D F_dense
  double norms = 0;          // L 2 D + D, and the query and key norms
  double head = 0;           // V D; 0 when tied to the embedding

  double multi_token = 0;  // layers that predict further tokens

  double total() const {
    return embedding + attention + router + experts + shared_expert + dense_mlp + norms + head + multi_token;
  }
};

ParameterCounts parameter_counts(const ModelConfig& model);

// Weights that one token's forward pass uses when k experts are active in every MoE layer; the embedding counts whole,
// as on model cards.
double active_parameters(const ModelConfig& model, double k);

// Weights of one routed expert: up and down projection, and with SwiGLU (Shazeer 2020, arXiv:2002.05202) the gate.
double expert_parameters(const ModelConfig& model);

// Weights of layer `layer` (0-based), all kinds together, its norms included.
double layer_parameters(const ModelConfig& model, int64_t layer);

// Weights that one depth of multi-token prediction adds.
double multi_token_parameters(const ModelConfig& model);

}  // namespace mmoe
