#include "train/loop/inference_model.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "sim/units/errors.h"
#include "train/checkpoint/model_checkpoint.h"
#include "train/loop/job_requirements.h"

namespace mmoe {

InferenceModel::InferenceModel(const std::filesystem::path& checkpoint, int64_t seq_len)
    : job_(checkpoint_job(checkpoint,
                          seq_len > 0 ? Overrides{{"training.seq_len", std::to_string(seq_len)}} : Overrides{})) {
  transformer_ = std::make_unique<Transformer>(job_, training_device(job_), Gradients::kNone, InitialWeights::kZero);
  load_weights(checkpoint, transformer_->parameters());
}

at::Tensor InferenceModel::checked_tokens(const std::vector<int32_t>& tokens) const {
  if (tokens.empty()) throw ConfigError(job_.where + ": no token to go on from; give at least one");
  for (const int32_t token : tokens) {
    if (token >= 0 && token < job_.model.vocab_size) continue;
    throw ConfigError(
        job_.where + ": token " + std::to_string(token) +
        " is none of the model's: ids are 0 to model.vocab_size - 1 = " + std::to_string(job_.model.vocab_size - 1));
  }
  const at::Tensor tensor = at::empty({static_cast<int64_t>(tokens.size())}, at::kInt);
  std::copy(tokens.begin(), tokens.end(), tensor.data_ptr<int32_t>());
  return tensor.to(transformer_->device());
}

void InferenceModel::check(const std::vector<int>& k_per_layer) const {
  if (static_cast<int64_t>(k_per_layer.size()) != job_.model.num_moe_layers()) {
    throw ConfigError(job_.where + ": " + std::to_string(k_per_layer.size()) + " values of k for " +
                      std::to_string(job_.model.num_moe_layers()) + " MoE layers; give one for each");
  }
  for (const int k : k_per_layer) {
    if (k >= 1 && k <= job_.model.num_experts) continue;
    throw ConfigError(job_.where + ": k = " + std::to_string(k) +
                      " is not between 1 and model.num_experts = " + std::to_string(job_.model.num_experts));
  }
}

at::Tensor InferenceModel::logits(const std::vector<int32_t>& tokens, const std::vector<int>& k_per_layer) {
  check(k_per_layer);
  const auto count = static_cast<int64_t>(tokens.size()), seq_len = job_.training.seq_len;
  if (count > seq_len) {
    throw ConfigError(job_.where + ": " + std::to_string(count) + " tokens are more than training.seq_len = " +
                      std::to_string(seq_len) + "; load the model for longer sequences");
  }
  // No token sees a later one, so what fills the sequence up changes nothing.
  std::vector<int32_t> sequence = tokens;
  sequence.resize(static_cast<size_t>(tokens.empty() ? 0 : seq_len));
  const c10::NoGradGuard no_grad;
  return transformer_->logits(checked_tokens(sequence), k_per_layer).narrow(0, 0, count);
}

std::vector<int32_t> InferenceModel::generate(const std::vector<int32_t>& prompt, const std::vector<int>& k_per_layer,
                                              const GenerationOptions& options,
                                              const std::function<void(int32_t token)>& on_token) {
  check(k_per_layer);
  const c10::NoGradGuard no_grad;
  const int64_t vocab = options.vocab_size > 0 ? options.vocab_size : job_.model.vocab_size;
  at::Tensor next = checked_tokens(prompt);
  KvCache cache = transformer_->make_cache(next.numel() + options.max_tokens);
  std::vector<int32_t> made;
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    const at::Tensor logits_V = transformer_->extend(cache, next, k_per_layer).narrow(0, 0, vocab);
    made.push_back(static_cast<int32_t>(sample_token(logits_V, options.sampling, static_cast<uint64_t>(i))));
    if (on_token) on_token(made.back());
    next = checked_tokens({made.back()});
  }
  return made;
}

}  // namespace mmoe
