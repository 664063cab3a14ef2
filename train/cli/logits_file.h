#pragma once
// Logits of one window, for comparison with other software.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "train/data/batches.h"
#include "train/model/transformer.h"

namespace mmoe {

class LogitsFile {
 public:
  // Of the first window. Both arguments must outlive this.
  LogitsFile(Transformer& transformer, const EvaluationWindows& windows);

  // Adds the tensor `name` [S, V], fp32.
  void add(const std::string& name, const std::vector<int>& k_per_layer);

  // A safetensors file of all of them and of "tokens" [S], int32.
  void write(const std::filesystem::path& path) const;

 private:
  Transformer& transformer_;
  at::Tensor tokens_S_;
  std::vector<int64_t> document_lengths_;  // empty where documents run on
  std::map<std::string, at::Tensor> logits_SV_;
};

}  // namespace mmoe
