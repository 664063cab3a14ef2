#pragma once
// Evaluation while a model trains: its loss on held-out text at several k, every some steps.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "train/data/data_flag.h"
#include "train/loop/step_log.h"
#include "train/model/transformer.h"

namespace mmoe {

struct EvaluationSettings {
  int64_t interval = 0;  // steps; 0: never. The run's last step is evaluated too
  std::vector<int> ks;   // each for all MoE layers
  Split split = Split::kValid;
  int64_t tokens = 0;  // of each data set, rounded up to whole windows; 0: all

  bool is_due(int64_t step, bool last) const { return interval > 0 && (last || step % interval == 0); }
};

struct EvaluationAtK {
  int k = 0;
  double loss = 0, bits_per_byte = 0;  // as in Evaluation
};

struct StepEvaluation {
  int64_t step = 0;
  std::string data;    // prefix of the token files; empty unless several are blended
  int64_t tokens = 0;  // evaluated
  double seconds = 0;  // all k
  std::vector<EvaluationAtK> by_k;
};

// Evaluates the weights as they stand, with windows as `mmoe eval` has them.
class StepEvaluator {
 public:
  // `data` must outlive this. ConfigError where the split holds no target, and for pipeline parallel jobs.
  StepEvaluator(const EvaluationSettings& settings, const Job& job, const DataBlend& data);

  // By data set. Every rank calls it, and all get the same numbers. Changes nothing of the training.
  std::vector<StepEvaluation> evaluate(int64_t step, Transformer& transformer, const Communicator& world) const;

  const EvaluationSettings& settings() const { return settings_; }

 private:
  EvaluationSettings settings_;
  int64_t moe_layers_, batch_, sharing_;
  std::vector<std::string> names_;
  std::vector<EvaluationWindows> windows_;
};

// RUN/evaluations.jsonl, a line an evaluation: step, data (of blends), split, tokens, seconds, loss_by_k and
// bits_per_byte_by_k (null where the bytes of text are not known).
class EvaluationLog {
 public:
  // As StepLog.
  EvaluationLog(const std::filesystem::path& run_folder, int64_t last_step);

  // Throws std::system_error on a full disk.
  void write(const StepEvaluation& evaluation, Split split);

 private:
  StepLog log_;
};

}  // namespace mmoe
