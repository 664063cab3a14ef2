#pragma once
// A whole training run in its run folder, in one process or as one rank of several.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "sim/units/units.h"
#include "train/data/data_flag.h"
#include "train/loop/evaluation_log.h"
#include "train/loop/step_recordings.h"
#include "train/parallel/process_groups.h"
#include "train/parallel/rank_board.h"

namespace mmoe {

struct RunOptions {
  std::vector<WeighedPrefix> data;  // token files
  std::filesystem::path out;        // run folder
  int64_t total_steps = 0;
  bool resume = false;
  std::optional<std::filesystem::path> initial_checkpoint;  // of the weights
  bool initial_optimizer = false;                           // the optimizer's moments are initial_checkpoint's too
  Bytes predicted_peak;                                     // of the largest rank at the worst draw; 0: not known
  FlopsPerSecond device_peak;                               // what MFU divides by; 0: not known
  // The guard of a run; nothing: none. Of several ranks: of the largest one. `retune`, a function of its argument,
  // gives a budget whose worst draw stays within the limit when peaks are `ratio` times those predicted, or none where
  // there is none; it is asked at checkpoints.
  struct Guard {
    Bytes memory_limit;
    std::function<Bytes(const std::vector<std::vector<int>>& k_per_layer)> predicted_step_peak;  // of one step's draws
    struct Retuned {
      Budget budget;
      Bytes predicted_peak;  // of its worst draw
    };
    std::function<std::optional<Retuned>(double ratio)> retune;  // empty: only warn
  };
  std::optional<Guard> guard;        // needs predicted_peak
  bool rank_logs = false;            // ranks/rank_N.jsonl: memory, time and traffic of each rank
  bool tensorboard = false;          // tensorboard/: the numbers of the other files as event files
  int64_t moe_metrics_interval = 0;  // steps between those whose routing is measured; 0: none
  EvaluationSettings evaluation;
  RecordingSettings recordings;
};

enum class RunEnd { kFinished, kStopped };  // kStopped: by SIGTERM, SIGINT or SIGUSR1, after a checkpoint

// Throws ConfigError for data that does not match the job or a run folder that cannot be continued. Changes nothing.
void check_run(const Job& job, const RunOptions& options);

// Trains to total_steps; writes metrics.jsonl, job.json and checkpoints, and progress to standard error. Throws as
// check_run does.
RunEnd train_run(const Job& job, const RunOptions& options);

// The same as one rank, on `device`; every rank of the job calls it. The run folder must be the same for all. Rank 0
// writes what is written once, each rank its part of a checkpoint; after the last step also profile_collectives.json. A
// signal to any rank stops all after the same step. Throws RankLost too.
RunEnd train_run(const Job& job, const RunOptions& options, c10::Device device, const ProcessGroups& groups,
                 RankBoard& board);

}  // namespace mmoe
