#pragma once
// A model loaded from a checkpoint for evaluation.

#include <filesystem>
#include <memory>

#include "sim/cli/flags.h"
#include "train/data/dataset.h"
#include "train/loop/evaluate.h"
#include "train/model/transformer.h"

namespace mmoe {

class CheckpointModel {
 public:
  // Loads the weights on the job's device; seq_len 0 keeps the job's. Throws ConfigError.
  explicit CheckpointModel(const std::filesystem::path& folder, int64_t seq_len = 0);

  const Job& job() const { return job_; }
  Transformer& transformer() { return *transformer_; }
  int64_t batch() const { return evaluation_batch(job_.training.seq_len); }

 private:
  Job job_;
  std::unique_ptr<Transformer> transformer_;
};

// The flag `name` as a list, or k_min to k_max of the job; each between 1 and num_experts.
std::vector<int> evaluated_ks(const Flags& flags, const Job& job, const std::string& name = "k");

// One k a MoE layer: by --allocation, by --k (one number), or k_max everywhere. Throws ConfigError.
std::vector<int> chosen_k(const Flags& flags, const Job& job);

// `k_per_layer` of an allocation file: one k for each MoE layer. Throws ConfigError.
std::vector<int> read_allocation(const std::string& path, const Job& job);

}  // namespace mmoe
