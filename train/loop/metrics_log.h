#pragma once
// metrics.jsonl: one line a step.

#include <filesystem>

#include "train/loop/step_log.h"
#include "train/loop/trainer.h"

namespace mmoe {

class MetricsLog {
 public:
  // RUN/metrics.jsonl, as StepLog.
  MetricsLog(const std::filesystem::path& run_folder, int64_t last_step);

  // Appends and flushes the step's line. Throws std::system_error on a full disk.
  void write(const StepResult& result, int64_t tokens_per_step);

 private:
  StepLog log_;
};

}  // namespace mmoe
