#pragma once
// A whole training run in its run folder.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "train/data/data_flag.h"

namespace mmoe {

struct RunOptions {
  std::vector<WeighedPrefix> data;  // token files
  std::filesystem::path out;        // run folder
  int64_t total_steps = 0;
  bool resume = false;
  std::optional<std::filesystem::path> initial_checkpoint;  // weights only
};

enum class RunEnd { kFinished, kStopped };  // kStopped: by SIGTERM, SIGINT or SIGUSR1, after a checkpoint

// Trains to total_steps; writes metrics.jsonl, job.json and checkpoints, and progress to standard error. Throws
// ConfigError for data that does not match the job or a run folder that cannot be continued.
RunEnd train_run(const Job& job, const RunOptions& options);

}  // namespace mmoe
