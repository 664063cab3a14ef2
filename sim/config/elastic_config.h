#pragma once
// How the number k of active experts is drawn during training.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/config/model_config.h"

namespace mmoe {

enum class Granularity { kGlobalBatch, kMicroBatch, kLayer };
enum class Sampling { kUniform, kCapacityWeighted, kTilted, kFixed, kTopP };
enum class BudgetKind { kAtMost, kExact, kWindow };
enum class DrawSharing { kNone, kReplicas };
// How draws are made to keep a bound. kCondition is the law that predictions know; kReject has the same law and draws
// until the bound is kept. The other two are what one would try first, for studies of what they do to the marginals:
// kClip cuts each k_l, from the first layer on, to what the bound leaves when the layers behind take k_min; kRescale
// multiplies all k_l - k_min of a group above its bound by one factor, rounded down.
enum class BudgetMethod { kCondition, kReject, kClip, kRescale };

// A bound on the sum of k_l over each group of MoE layers in one micro-batch (for kWindow: over all micro-batches
// that a stage holds in flight).
struct Budget {
  BudgetKind kind = BudgetKind::kAtMost;
  std::vector<int64_t> groups;  // number of MoE layers of each group; sums to the number of MoE layers
  std::vector<int64_t> sum_k;   // one bound a group
  // The MoE layers of each group where they are not consecutive (default groups under interleaved pipelines), counted
  // from 0 for the first MoE layer; else empty.
  std::vector<std::vector<int64_t>> layers;
  BudgetMethod method = BudgetMethod::kCondition;

  // The MoE layers of each group.
  std::vector<std::vector<int64_t>> group_layers() const;
};

struct ElasticConfig {
  int k_min = 1;
  int k_max = 1;
  Granularity granularity = Granularity::kLayer;
  Sampling sampling = Sampling::kUniform;
  double tau = 2;       // capacity_weighted: P(k) proportional to k^(1/tau)
  double mean_k = 0;    // tilted: P(k) proportional to r^k with this mean, strictly between k_min and k_max
  double top_p = 0.1;   // top_p: least k' whose cumulative probability reaches it
  int k_reference = 0;  // denominator of gate_normalization `reference`; default k_max
  DrawSharing share = DrawSharing::kNone;
  std::optional<Budget> budget;
  bool budget_is_auto = false;

  // Throws ConfigError naming the key ("elastic.budget.sum_k"), its value and the rule it breaks.
  void validate(const ModelConfig& model, const std::string& where) const;
};

}  // namespace mmoe
