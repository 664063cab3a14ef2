#pragma once
// metrics.jsonl: one line a step.

#include <filesystem>
#include <fstream>

#include "train/loop/trainer.h"

namespace mmoe {

// A file of one JSON line a step ("step"), opened for appending after dropping the lines of steps beyond `last_step`
// (0: all lines) and a last one that was cut short.
std::ofstream open_step_log(const std::filesystem::path& path, int64_t last_step);

class MetricsLog {
 public:
  // RUN/metrics.jsonl, as open_step_log.
  MetricsLog(const std::filesystem::path& run_folder, int64_t last_step);

  // Appends and flushes the step's line. Throws std::system_error on a full disk.
  void write(const StepResult& result, int64_t tokens_per_step);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace mmoe
