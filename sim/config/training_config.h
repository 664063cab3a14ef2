#pragma once
// Batch, precision, optimiser and recomputation of a training job.

#include <cstdint>
#include <string>
#include <vector>

#include "sim/config/hardware_config.h"
#include "sim/config/model_config.h"
#include "sim/config/parallelism_config.h"

namespace mmoe {

enum class Precision { kFp64, kFp32, kBf16, kFp8 };
enum class LearningRateSchedule { kCosine, kWsd, kConstant };
enum class DispatchKind { kDropless, kCapacity, kPadded };
enum class DispatcherKind { kAllToAll, kAllGather, kHierarchical };
enum class LoadKind { kBalanced, kZipf, kDirichlet, kMeasured };

// What is recomputed in the backward pass instead of kept.
struct Recompute {
  bool full = false;                 // whole layers: only their inputs are kept
  std::vector<std::string> modules;  // "attention", "moe": the block's inner activations
  bool has(const std::string& module) const;
};

struct MoeTrainingConfig {
  DispatchKind dispatch = DispatchKind::kDropless;
  double capacity_factor = 1;
  DispatcherKind dispatcher = DispatcherKind::kAllToAll;
  LoadKind load = LoadKind::kBalanced;
  double load_parameter = 0;  // Zipf exponent or Dirichlet concentration
  std::string load_file;      // measured
};

struct TrainingConfig {
  int64_t seq_len = 0;
  int64_t micro_batch_size = 1;
  int64_t global_batch_size = 1;
  double tokens = 0;  // length of the run; 0: not given
  Precision precision = Precision::kBf16;
  Recompute recompute;
  Precision optimizer_precision = Precision::kFp32;
  bool overlap = true;
  std::string offload = "none";
  double learning_rate = 1e-3;
  LearningRateSchedule schedule = LearningRateSchedule::kCosine;
  int64_t warmup_steps = 0;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double clip_norm = 1;
  double load_balance_coefficient = 0.01;
  double z_loss_coefficient = 0.001;
  int64_t checkpoint_interval = 0;  // steps; 0: at the end only
  uint64_t seed = 0;
  MoeTrainingConfig moe;

  int64_t micro_batch_tokens() const { return micro_batch_size * seq_len; }
  // Micro-batches that one data-parallel replica runs in a step.
  int64_t num_micro_batches(int64_t data_parallel_size) const {
    return global_batch_size / (micro_batch_size * data_parallel_size);
  }

  void validate(const ModelConfig& model, const HardwareConfig& hardware, const ParallelismConfig& parallelism,
                const std::string& where) const;
};

}  // namespace mmoe
