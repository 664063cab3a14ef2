#pragma once
// The kernels' CPU versions and the experts' products at the sizes of one MoE layer, each beside LibTorch's way.

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace mmoe::bench {

// One MoE layer and the batch it works on.
struct LayerSize {
  int64_t num_tokens = 2048, hidden_size = 768, num_heads = 12, num_kv_heads = 12, head_dim = 64;
  int64_t num_experts = 64, top_k = 6, expert_hidden_size = 256, vocab_size = 8192, seq_len = 256;
};

// A call that can be repeated, with the bytes that it must at least read and write and the FLOPs of its matrix
// products.
struct KernelBenchmark {
  std::string name;
  double bytes = 0, flops = 0;
  std::function<void()> run;
  std::function<void()> aten;  // the same result by LibTorch's operators
};

// Every operation in a compute type, on random data that the benchmarks own.
std::vector<KernelBenchmark> kernel_benchmarks(at::ScalarType type, const LayerSize& size);

}  // namespace mmoe::bench
