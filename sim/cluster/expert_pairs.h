#pragma once
// How many rows come to each expert-parallel rank at each k. A share that is the same for every k cannot say it: a rank
// with E / R experts gets at most min(k, E / R) of a token's k choices, and at k = E all ranks get equally many.

#include <cstdint>
#include <vector>

#include "sim/cluster/expert_load.h"
#include "sim/config/job.h"

namespace mmoe {

// Mean number of a token's choices that fall on a rank's experts, by k; of balanced routing k / ranks.
using PairsByK = std::vector<double>;  // [k], from 0 to num_experts

class ExpertPairs {
 public:
  // One rank that stands for all, whose rows are `load` times balanced ones.
  ExpertPairs(const Job& job, const LoadByK& load);
  // Of every rank, by layer and k (pairs_by_k), for a load that is a run's metrics.jsonl (load_is_by_k), which must
  // have as many MoE layers as the job. Throws ConfigError.
  explicit ExpertPairs(const Job& job);

  int64_t num_ranks() const { return static_cast<int64_t>(ranks_.size()); }  // that differ
  // `layer` counts MoE layers.
  double at(int64_t rank, int64_t layer, int k) const;
  // Of the rank that gets most at this k, over balanced rows, mean over layers.
  double highest_factor(int k) const;

 private:
  int64_t num_expert_ranks_;
  std::vector<std::vector<PairsByK>> ranks_;  // [rank][MoE layer]
};

// A step's draws of one layer: how many of a token's choices fell on a rank's experts, summed over the micro-batches.
struct RankPairs {
  std::vector<int> k;  // of each micro-batch, each of equally many tokens
  double pairs = 0;
};

// Least squares for pairs(k) from steps whose micro-batches may have different k: with one k a step the mean of the
// steps with that k. pairs(0) = 0 and pairs(num_experts) = experts_of_rank, since k = num_experts takes all; between
// the k that the steps tell of, and from the largest of them on, a straight line. Never more than min(k,
// experts_of_rank).
PairsByK pairs_by_k(const std::vector<RankPairs>& steps, int64_t num_experts, int64_t experts_of_rank);

}  // namespace mmoe
