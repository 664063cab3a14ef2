#include "train/cli/logits_file.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>

#include "train/checkpoint/safetensors.h"

namespace mmoe {

LogitsFile::LogitsFile(Transformer& transformer, const EvaluationWindows& windows)
    : transformer_(transformer), tokens_S_(at::empty({windows.seq_len()}, at::kInt)) {
  const at::Tensor targets_S = at::empty_like(tokens_S_);
  windows.window(0, tokens_S_.data_ptr<int32_t>(), targets_S.data_ptr<int32_t>());
  if (windows.documents() == Documents::kApart) {
    document_lengths_ = document_lengths(targets_S.data_ptr<int32_t>(), windows.seq_len(), windows.seq_len());
  }
}

void LogitsFile::add(const std::string& name, const std::vector<int>& k_per_layer) {
  const c10::NoGradGuard no_grad;
  logits_SV_[name] =
      transformer_.logits(tokens_S_.to(transformer_.device()), k_per_layer, document_lengths_).to(at::kFloat).cpu();
}

void LogitsFile::write(const std::filesystem::path& path) const {
  std::vector<SafetensorsTensor> tensors = {
      {"tokens", SafetensorsDtype::kI32, tokens_S_.sizes().vec(), tokens_S_.data_ptr()}};
  for (const auto& [name, logits_SV] : logits_SV_) {
    tensors.push_back({name, SafetensorsDtype::kF32, logits_SV.sizes().vec(), logits_SV.data_ptr()});
  }
  write_safetensors(path, tensors);
}

}  // namespace mmoe
