#pragma once
// A tiny model with random weights and a small byte data set, in a folder of their own.

#include <string>

#include "sim/config/job.h"
#include "tests/train/data/temporary_folder.h"
#include "train/checkpoint/model_checkpoint.h"
#include "train/data/build.h"
#include "train/data/dataset.h"
#include "train/loop/trainer.h"
#include "train/ops/parallel.h"
#include "train/profiling/counting_allocator.h"

namespace mmoe {

// The counting allocator must be there before the first tensor.
inline const bool kRuntimeInstalled = [] {
  install_counting_allocator();
  install_kernel_runtime();
  return true;
}();

inline Job tiny_job(const std::string& changes = "{}") {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 16, "num_layers": 3, "num_heads": 2, "vocab_size": 256, "num_experts": 6,
              "expert_hidden_size": 16},
    "hardware": {"device": "cpu"},
    "training": {"seq_len": 16, "micro_batch_size": 4, "global_batch_size": 8, "precision": "fp32", "seed": 7,
                 "learning_rate": 0.01},
    "elastic": {"k_min": 1, "k_max": 4}})");
  json.merge_patch(nlohmann::json::parse(changes));
  return parse_job(json, "tiny job", ".");
}

// Token files with prefix `prefix`; every split holds some thousands of bytes.
inline void build_tiny_data(const TemporaryFolder& folder, const std::string& prefix) {
  BuildOptions options;
  options.text_files = {folder.write("text.txt", sample_text(300, 2))};
  options.prefix = prefix;
  options.split_fractions = {0.4, 0.2, 0.2, 0.2};
  options.num_threads = 1;
  build_dataset(options);
}

// Trains for `steps` steps and returns the checkpoint's folder.
inline std::string tiny_checkpoint(const TemporaryFolder& folder, const Job& job, const std::string& data, int steps) {
  Trainer trainer(job, c10::kCPU);
  const Dataset dataset(data);
  const Batches batches(dataset.tokens(Split::kTrain), job.training.seq_len, job.training.seed);
  for (int step = 1; step <= steps; ++step) trainer.run_step(step, steps, batches);
  return save_checkpoint(folder.file("run"), job, steps, trainer.transformer().parameters(), trainer.optimizer(),
                         nlohmann::json::object());
}

}  // namespace mmoe
