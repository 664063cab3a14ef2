#pragma once
// Tunes the activation budget of a pipeline, whose stages hold several micro-batches at once.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/budget_tuner.h"
#include "sim/elastic/draw_sum.h"
#include "sim/elastic/in_flight_maximum.h"

namespace mmoe {

// One pipeline rank: peak = at_least + the sum of added[k_l - k_min] over its MoE layers and the micro-batches of which
// it keeps activations, granularity `layer`.
struct PipelineStage {
  struct Chunk {
    int64_t num_layers = 0;  // MoE layers
    int64_t in_flight = 0;   // micro-batches of which this chunk keeps activations
  };
  double at_least = 0;        // bytes: at k_min in every layer
  std::vector<double> added;  // [k - k_min], bytes of one layer and micro-batch over those at k_min; rising from 0
  std::vector<Chunk> chunks;
  // Further replicas that draw on their own and send rows to the rank's experts, and what of `added` the k of each
  // gives.
  int64_t others = 0;
  std::vector<double> from_other = {};  // [k - k_min], where there are others
  int64_t num_layers() const;
  int64_t width() const;  // most micro-batches in flight of a chunk
  // How often its memory is at a height in a step: after every forward pass that a backward pass follows.
  int64_t windows(int64_t num_micro_batches) const;
  // What is in flight, as draws of all of the stage's layers. Chunks count as holding different micro-batches: they do
  // but for a few, and under a bound those that they share spread less.
  std::vector<DrawCosts> in_flight() const;
};

// One moment of a rank: bytes = base + the costs of independent draws, each of one replica's micro-batch.
struct DrawnPeak {
  double base = 0;
  std::vector<DrawCosts> draws;
  double ranks = 1;  // that have it, each with draws of its own first
};

// Ranks whose memory follows the draws of several replicas, because they share experts. Their peak is the highest of
// these moments, and no lower than `least`; P(a peak above x) counts as the sum over moments and ranks, which is no
// less than that of the highest, and exact where one moment is always the highest of one rank.
struct GroupMemory {
  int64_t num_layers = 0;  // MoE layers
  double least = 0;        // bytes
  std::vector<DrawnPeak> peaks;
};

struct PipelineGoal {
  std::optional<double> memory_limit;  // bytes; or
  std::optional<double> saving;        // 1 - budgeted / unbudgeted peak, each at `confidence` over the horizon
  double confidence = 0.99;            // in (0, 1)
  double steps = 1;                    // horizon
  double replicas = 1;                 // that draw on their own; or groups of them that share experts
  int64_t num_micro_batches = 1;       // of a replica's step
};

// As tune_budget: least KL (nats of one micro-batch, all stages) with P(no stage passes the limit over the horizon) >=
// confidence, for kinds at_most and exact by the knapsack over stages. The law of what is in flight is DrawSum's: where
// `added` is no straight line peaks are too high by at most its rounding, and with many draws of other replicas on a
// grid that keeps their mean. Windows, replicas, stages and steps count as independent: sliding sums of independent
// draws are associated, so the true probability is no smaller (Esary, Proschan, Walkup 1967). Kind window, for stages
// of one chunk of which some hold several micro-batches: the largest bound whose peak is within the limit however its
// sum is spread, a promise that no draw can break; its KL is simulated (kl_standard_error). Groups are the stages with
// MoE layers, in order.
BudgetTuning tune_pipeline_budget(const ElasticConfig& config, const std::vector<PipelineStage>& stages,
                                  const PipelineGoal& goal);

// The same for one group of ranks without a pipeline, all of whose replicas draw under the same bound; kinds at_most
// and exact.
BudgetTuning tune_group_budget(const ElasticConfig& config, const GroupMemory& group, const PipelineGoal& goal);

// P(some stage passes `limit` at some time of the horizon) by the law of the most that it holds in flight
// (in_flight_maximum_tail), for a budget of kind at_most or exact. `orders`: the passes of each stage's rank. Stages
// share no layer, so they are independent. Nothing for orders that in_flight_maximum_tail does not cover, and for
// stages of several chunks that other replicas send rows to.
std::optional<TailProbability> passing_probability(const ElasticConfig& config,
                                                   const std::vector<PipelineStage>& stages,
                                                   const std::vector<std::span<const Pass>>& orders,
                                                   const PipelineGoal& goal, const Budget& budget, double limit,
                                                   int64_t num_samples = 500);

}  // namespace mmoe
