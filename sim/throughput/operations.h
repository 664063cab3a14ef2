#pragma once
// The operations of a training step as the trainer runs them, with their work. The names are the contract between
// trainer, profile and simulator.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

enum class Operation {
  kEmbedding,
  kNorm,
  kQkv,
  kAttention,
  kAttentionOutput,
  kRouter,
  kExperts,
  kMlp,
  kSharedExpert,
  kLossHead,
  kGradientNorm,
  kOptimizer
};
enum class Phase { kForward, kBackward, kRecompute, kUpdate };

// "experts", "attention_output", ...; and back (nothing when unknown).
std::string_view operation_name(Operation operation);
std::string_view phase_name(Phase phase);
std::optional<Operation> operation_named(std::string_view name);
std::optional<Phase> phase_named(std::string_view name);
// As traces call them: "layer 2 experts forward k=4", "optimizer update"; "layer 2 forward k=4" for a layer's forward
// pass. Without a layer where it is -1, without k where it is 0.
std::string operation_label(std::string_view operation, std::string_view phase, int layer, int k);
std::string layer_label(int layer, int k);

// Which efficiency applies.
enum class CostClass { kGemm, kGroupedGemm, kAttention, kMemory, kLoss, kUpdate };

// One piece of an operation's work; an operation is several pieces when parts of it run at different rates (`experts`:
// GEMMs, gather and scatter, SwiGLU). Work is the total over all `calls`.
struct OperationCost {
  Operation operation = Operation::kNorm;
  CostClass cost_class = CostClass::kMemory;
  Phase phase = Phase::kForward;
  int layer = -1;  // -1: belongs to no layer
  int k = 0;       // active experts; 0: does not depend on k
  Precision precision = Precision::kFp32;
  double flops = 0;
  double bytes = 0;         // least traffic
  double working_set = 0;   // distinct bytes touched between two uses; decides how far caches serve the traffic
  double exponentials = 0;  // of softmax and SiLU; of the loss one for each logit
  double rows = 0, columns = 0, inner = 0;  // shape of one GEMM call; attention: seq_len, seq_len, head_dim
  double calls = 1;
};

// Forward, recompute and backward of one micro-batch; `k_per_layer` has one k for each MoE layer.
std::vector<OperationCost> step_operations(const Job& job, const std::vector<int>& k_per_layer);

// What a step does once: gradient norm and optimiser.
std::vector<OperationCost> update_operations(const Job& job);

// The costs of one layer or, for layer -1, of what belongs to no layer (update excluded). A step's costs are the sum of
// these, so that time is additive over layers. `k` is ignored for dense layers.
std::vector<OperationCost> layer_operations(const Job& job, int layer, int k);

}  // namespace mmoe
