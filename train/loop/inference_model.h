#pragma once
// A checkpoint as a model to call: logits and text at any number of active experts.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "sim/config/job.h"
#include "train/loop/sampling.h"
#include "train/model/transformer.h"

namespace mmoe {

struct GenerationOptions {
  int64_t max_tokens = 200;
  SamplingOptions sampling;
  int64_t vocab_size =
      0;  // ids from this on are never made (a model's vocabulary may be wider than its tokenizer's); 0: all
};

class InferenceModel {
 public:
  // Loads the weights on the job's device; seq_len 0 keeps the job's. Throws ConfigError.
  explicit InferenceModel(const std::filesystem::path& checkpoint, int64_t seq_len = 0);

  // In what follows k_per_layer has one k of each MoE layer, from 1 to model.num_experts, and tokens are ids of the
  // model's vocabulary; ConfigError says which is not so.

  // Of the token after each of `tokens`, at most seq_len: [tokens, vocab_size], in the type that the job computes in,
  // on the device.
  at::Tensor logits(const std::vector<int32_t>& tokens, const std::vector<int>& k_per_layer);

  // The tokens that follow a prompt, one after another from a cache of keys and values. `on_token` gets each as soon as
  // it is made; may be empty.
  std::vector<int32_t> generate(const std::vector<int32_t>& prompt, const std::vector<int>& k_per_layer,
                                const GenerationOptions& options = {},
                                const std::function<void(int32_t token)>& on_token = {});

  const Job& job() const { return job_; }
  Transformer& transformer() { return *transformer_; }

 private:
  at::Tensor checked_tokens(const std::vector<int32_t>& tokens) const;
  void check(const std::vector<int>& k_per_layer) const;

  Job job_;
  std::unique_ptr<Transformer> transformer_;
};

}  // namespace mmoe
