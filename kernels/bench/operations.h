#pragma once
// The operations that mmoe-bench times, at the sizes of one MoE layer.

#include <functional>
#include <string>
#include <vector>

#include "kernels/types/scalar.h"

namespace mmoe::kernels::bench {

// One MoE layer and the batch it works on.
struct LayerSize {
  int64_t num_tokens = 8192, hidden_size = 768, num_heads = 12, num_kv_heads = 12, head_dim = 64;
  int64_t num_experts = 64, top_k = 6, expert_hidden_size = 256, vocab_size = 8192, seq_len = 1024;
};

// A call that can be repeated, and the bytes that it must at least read and write.
struct Operation {
  std::string name;
  double bytes;
  std::function<void()> run;
};

// Every operation in the given scalar type, on random data that the operations own.
std::vector<Operation> layer_operations(Scalar scalar, const LayerSize& size);

}  // namespace mmoe::kernels::bench
