#pragma once
// Sizes of published MoE models, from their Hugging Face config.json.

#include "sim/config/model_config.h"

namespace mmoe {

// allenai/OLMoE-1B-7B-0924
inline ModelConfig olmoe_1b_7b() {
  ModelConfig model;
  model.hidden_size = 2048;
  model.num_layers = 16;
  model.num_heads = model.num_kv_heads = 16;
  model.head_dim = 128;
  model.vocab_size = 50304;
  model.num_experts = 64;
  model.expert_hidden_size = 1024;
  model.qk_norm = QkNorm::kFull;
  return model;
}

// Qwen/Qwen3-30B-A3B
inline ModelConfig qwen3_30b_a3b() {
  ModelConfig model;
  model.hidden_size = 2048;
  model.num_layers = 48;
  model.num_heads = 32;
  model.num_kv_heads = 4;
  model.head_dim = 128;
  model.vocab_size = 151936;
  model.num_experts = 128;
  model.expert_hidden_size = 768;
  model.qk_norm = QkNorm::kPerHead;
  return model;
}

// mistralai/Mixtral-8x7B-v0.1
inline ModelConfig mixtral_8x7b() {
  ModelConfig model;
  model.hidden_size = 4096;
  model.num_layers = 32;
  model.num_heads = 32;
  model.num_kv_heads = 8;
  model.head_dim = 128;
  model.vocab_size = 32000;
  model.num_experts = 8;
  model.expert_hidden_size = 14336;
  return model;
}

}  // namespace mmoe
