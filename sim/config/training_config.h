#pragma once
// Batch, precision, optimiser and recomputation of a training job.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/config/hardware_config.h"
#include "sim/config/model_config.h"
#include "sim/config/parallelism_config.h"

namespace mmoe {

enum class Precision { kFp64, kFp32, kBf16, kFp16, kFp8, kFp4 };
// Cosine and WSD (warm-up, stable, decay) end at this share of the peak; WSD decays over this share of the steps.
enum class LearningRateSchedule { kCosine, kWsd, kConstant };
inline constexpr double kLearningRateFloor = 0.1, kWsdDecayFraction = 0.2;
enum class DispatchKind { kDropless, kCapacity, kPadded };
enum class DispatcherKind { kAllToAll, kAllGather, kHierarchical };
// What lies in the host's memory: optimiser states, which the host updates, or what layers keep for their backward
// pass.
enum class Offload { kNone, kOptimizer, kActivations };
enum class LoadKind { kBalanced, kZipf, kDirichlet, kMeasured };

// Attention that never holds the scores (FlashAttention), or softmax over scores in memory.
enum class AttentionBackend { kFlash, kUnfused };

// How training sequences are made of documents: cut from the documents one after another, wherever a sequence ends; or
// whole documents put together so that as few as possible are cut (best-fit packing, Ding et al. 2024,
// arXiv:2404.10830).
enum class Packing { kConcatenate, kBestFit };

// What the routed experts keep for their backward pass, for each of their rows (D hidden size, F expert hidden size):
// everything that a gradient reads (input, gate and up, activation: D + 3F numbers); gate and up, from which the rest
// comes without a matrix product (2F); or nothing, and the product of gate and up runs again.
enum class ExpertSaving { kAll, kLean, kRecompute };

// What the trainer computes a layer with: its own kernels, or plain LibTorch operators that autograd differentiates.
enum class OperationSet { kKernels, kAten };

// What is recomputed in the backward pass instead of kept.
struct Recompute {
  bool full = false;  // whole layers: only their inputs are kept
  // The block's inner activations: "attention", "moe", "mlp", "shared_experts", "mla_up_projection"; or only what one
  // operation keeps: "core_attention", "moe_activation", "norm".
  std::vector<std::string> modules;
  int64_t num_layers = 0;  // of `full`: the first layers of each pipeline chunk; 0: all of them
  bool has(std::string_view module) const;
  bool any() const { return full || !modules.empty(); }
};

// The device's dense peak at a precision; 0 where it has none. fp4 and fp8 are those of the tensor cores.
FlopsPerSecond peak_of(const DeviceSpec& device, Precision precision);

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
  double tokens = 0;               // length of the run; 0: not given
  std::string framework = "mmoe";  // whose memory and time: a preset (mmoe, megatron_core, ...) or a file
  Precision precision = Precision::kBf16;
  Recompute recompute;
  ExpertSaving expert_saving = ExpertSaving::kLean;
  OperationSet operations = OperationSet::kKernels;
  Precision optimizer_precision = Precision::kFp32;
  Precision gradient_precision = Precision::kFp32;  // of the gradients that micro-batches are summed into
  AttentionBackend attention_backend = AttentionBackend::kFlash;
  double hidden_dropout = 0, attention_dropout = 0;
  std::vector<std::string> options;  // switches of the framework that its file lists, e.g. "fused_cross_entropy"
  bool overlap = true;
  Offload offload = Offload::kNone;
  Packing packing = Packing::kConcatenate;
  // Attention stays within documents, and a document's last token has no target: Megatron-LM's --reset-attention-mask,
  // --reset-position-ids and --eod-mask-loss together.
  bool reset_attention_mask = false;
  double learning_rate = 1e-3;
  LearningRateSchedule schedule = LearningRateSchedule::kCosine;
  int64_t warmup_steps = 0;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double clip_norm = 1;
  std::vector<std::string> freeze;  // of kParameterParts: weights that stay as they are, without optimiser states
  double load_balance_coefficient = 0.01;
  double z_loss_coefficient = 0.001;
  int64_t checkpoint_interval = 0;  // steps; 0: at the end only
  uint64_t seed = 0;
  MoeTrainingConfig moe;

  int64_t micro_batch_tokens() const { return micro_batch_size * seq_len; }
  // Whole steps that `tokens` amount to.
  int64_t num_steps() const { return static_cast<int64_t>(tokens / static_cast<double>(global_batch_size * seq_len)); }
  // Micro-batches that one data-parallel replica runs in a step.
  int64_t num_micro_batches(int64_t data_parallel_size) const {
    return global_batch_size / (micro_batch_size * data_parallel_size);
  }

  bool has_option(std::string_view option) const;
  bool freezes(std::string_view part) const;

  void validate(const ModelConfig& model, const HardwareConfig& hardware, const ParallelismConfig& parallelism,
                const std::string& where) const;
};

}  // namespace mmoe
