#pragma once
// Foreign models become checkpoints, converted piece by piece from mapped files.

#include <cstdint>
#include <filesystem>
#include <optional>

#include "sim/config/job.h"

namespace mmoe {

// A dense model as a MoE model ("upcycling", Komatsuzaki et al. 2022, arXiv:2212.05055): every expert is a copy of the
// dense feed-forward, or with split = G one of its G slices of the width (fine-grained experts, He et al. 2024,
// arXiv:2410.07524), expert e slice e mod G with its down projection times G: k = G different slices with equal routing
// weights then add up to the dense layer. Routing weights are normalised over the selected.
struct Upcycle {
  int64_t num_experts = 0;
  int64_t split = 1;
  double noise = 0;  // spread of normal noise on the experts' weights, over the root mean square of each tensor
  int64_t top_k = 0;
  uint64_t seed = 0;
};

struct ImportOptions {
  Overrides overrides;  // of the checkpoint's job ("training.precision")
  std::optional<Upcycle> upcycle;
};

// Reads a folder that save_pretrained of transformers wrote (Llama, Qwen2, Qwen3, Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE)
// and writes the checkpoint folder `out`: weights, state.json with a job for evaluation (fixed k as in config.json,
// precision as the weights' type), and the tokenizer's files. Returns that job. Throws ConfigError for every folder
// that is not wholly understood: other architectures, tensors missing, of another shape, or left over.
Job import_model(const std::filesystem::path& from, const std::filesystem::path& out, const ImportOptions& options);

}  // namespace mmoe
