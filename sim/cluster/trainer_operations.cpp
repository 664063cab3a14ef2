#include "sim/cluster/trainer_operations.h"

#include <algorithm>
#include <cmath>

#include "sim/formulas/parameter_counts.h"

namespace mmoe {
namespace {

int64_t divided(int64_t size, int64_t ranks) { return std::max<int64_t>(1, size / ranks); }

// Operations but attention know tokens, not sequences. As many micro-batches.
Job with_tokens(Job job, double tokens) {
  job.training.global_batch_size /= job.training.micro_batch_size;
  job.training.micro_batch_size = 1;
  job.training.seq_len = std::max<int64_t>(1, std::llround(tokens));
  return job;
}

TimeCause cause_of(CostClass cost_class) {
  switch (cost_class) {
    case CostClass::kGemm:
      return TimeCause::kProducts;
    case CostClass::kGroupedGemm:
      return TimeCause::kExperts;
    case CostClass::kAttention:
      return TimeCause::kAttention;
    default:
      return TimeCause::kElementwise;
  }
}

bool is_in_blocks(Operation operation) {
  return operation == Operation::kQkv || operation == Operation::kAttentionOutput || operation == Operation::kMlp ||
         operation == Operation::kSharedExpert;
}

}  // namespace

RooflineParameters rank_parameters(const Calibration& calibration, const HardwareConfig& hardware,
                                   Precision precision) {
  RooflineParameters p = roofline_parameters(calibration, hardware, precision);
  if (!hardware.spec.is_cpu) return p;
  const auto ranks = static_cast<double>(hardware.devices_per_node);
  for (double* shared :
       {&p.matmul_peak, &p.matmul_peak_fp32, &p.bandwidth, &p.exponential_rate, &p.logit_rate, &p.cache_bytes}) {
    *shared /= ranks;
  }
  return p;
}

TrainerOperations::TrainerOperations(const Job& job, const RooflineParameters& parameters)
    : parameters_(parameters), between_blocks_(job), in_blocks_(job), in_attention_(job), in_experts_(job) {
  const ParallelismConfig& split = job.parallelism;
  const double tokens = static_cast<double>(job.training.micro_batch_tokens()) / static_cast<double>(split.context);
  const auto tensor = static_cast<double>(split.tensor);
  between_blocks_ = with_tokens(job, split.sequence ? tokens / tensor : tokens);
  const auto split_heads = [&](Job& part, int64_t ranks) {
    part.model.num_heads = divided(job.model.num_heads, ranks);
    part.model.num_kv_heads = divided(job.model.num_kv_heads, ranks);
  };
  split_heads(in_attention_, split.tensor * split.context);
  in_blocks_ = with_tokens(job, tokens);
  split_heads(in_blocks_, split.tensor);
  in_blocks_.model.dense_hidden_size = divided(job.model.dense_hidden_size, split.tensor);
  in_blocks_.model.shared_expert_hidden_size = job.model.shared_expert_hidden_size / split.tensor;
  in_experts_.model.num_experts = divided(job.model.num_experts, split.expert);
  in_experts_.model.expert_hidden_size = divided(job.model.expert_hidden_size, split.expert_tensor);
  expert_tokens_ = tokens / tensor * static_cast<double>(split.expert_tensor);
}

double TrainerOperations::seconds(const OperationCost& cost) const {
  return parameters_.step_factor * operation_seconds(cost, parameters_).value;
}

void TrainerOperations::add(const Job& job, int index, int k, const Counts& counts, LayerSeconds& sum) const {
  for (const OperationCost& cost : layer_operations(job, index, k)) {
    if (!counts(cost.operation)) continue;
    SecondsByCause& pass = cost.phase == Phase::kForward ? sum.forward : sum.backward;
    pass[static_cast<std::size_t>(cause_of(cost.cost_class))] += seconds(cost);
  }
}

LayerSeconds TrainerOperations::layer(int index, int k, double rows_factor) const {
  LayerSeconds layer;
  add(
      between_blocks_, index, k, [](Operation o) { return o == Operation::kNorm || o == Operation::kRouter; }, layer);
  add(in_blocks_, index, k, is_in_blocks, layer);
  add(
      in_attention_, index, k, [](Operation o) { return o == Operation::kAttention; }, layer);
  if (k > 0) {
    const Job in_experts = with_tokens(in_experts_, rows_factor * expert_tokens_);
    add(
        in_experts, index, k, [](Operation o) { return o == Operation::kExperts; }, layer);
  }
  return layer;
}

LayerSeconds TrainerOperations::dense_layer() const { return layer(0, 0, 1); }

LayerSeconds TrainerOperations::moe_layer(double k, double rows_factor) const {
  const int index = static_cast<int>(between_blocks_.model.num_layers) - 1;
  const double below = std::floor(k), share = k - below;
  LayerSeconds moe = layer(index, static_cast<int>(below), rows_factor);
  if (share == 0) return moe;
  const LayerSeconds above = layer(index, static_cast<int>(below) + 1, rows_factor);
  for (std::size_t i = 0; i < moe.forward.size(); ++i) {
    moe.forward[i] += share * (above.forward[i] - moe.forward[i]);
    moe.backward[i] += share * (above.backward[i] - moe.backward[i]);
  }
  return moe;
}

LayerSeconds TrainerOperations::embedding() const {
  LayerSeconds embedding;
  add(
      between_blocks_, -1, 0, [](Operation o) { return o == Operation::kEmbedding; }, embedding);
  return embedding;
}

LayerSeconds TrainerOperations::head() const {
  LayerSeconds head;
  add(
      between_blocks_, -1, 0, [](Operation o) { return o != Operation::kEmbedding; }, head);
  return head;
}

double TrainerOperations::update(double owned_weights) const {
  const double share = owned_weights / parameter_counts(between_blocks_.model).total();
  double sum = 0;
  for (OperationCost cost : update_operations(between_blocks_)) {
    cost.bytes *= share;
    cost.working_set *= share;
    sum += seconds(cost);
  }
  return sum;
}

}  // namespace mmoe
