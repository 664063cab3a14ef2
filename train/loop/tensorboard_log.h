#pragma once
// A run's numbers in TensorBoard's event files, RUN/tensorboard.

#include <filesystem>

#include "train/loop/evaluation_log.h"
#include "train/loop/event_file.h"
#include "train/loop/trainer.h"

namespace mmoe {

class TensorBoardLog {
 public:
  // What RUN/tensorboard holds of steps beyond `last_step` is forgotten. Throws std::system_error.
  TensorBoardLog(const std::filesystem::path& run_folder, int64_t last_step);

  // train/NAME as in metrics.jsonl, with the mean k as train/k_mean; by layer moe/layer_L/NAME where it was measured.
  void write(const StepResult& result, int64_t tokens_per_step);
  // eval/loss_kK and eval/bits_per_byte_kK; of a blend of data sets eval/PREFIX/...
  void write(const StepEvaluation& evaluation);

 private:
  EventFile file_;
};

}  // namespace mmoe
