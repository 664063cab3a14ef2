#pragma once
// metrics.jsonl: one line a step.

#include <filesystem>
#include <fstream>

#include "train/loop/trainer.h"

namespace mmoe {

class MetricsLog {
 public:
  // Opens RUN/metrics.jsonl for appending after dropping the lines of steps beyond `last_step` (0: all lines).
  MetricsLog(const std::filesystem::path& run_folder, int64_t last_step);

  // Appends and flushes the step's line. Throws std::system_error on a full disk.
  void write(const StepResult& result, int64_t tokens_per_step);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace mmoe
