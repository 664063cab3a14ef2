#pragma once
// Tunes the activation budget of a pipeline, whose stages hold several micro-batches at once.

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/elastic/budget_tuner.h"
#include "sim/elastic/discrete_law.h"
#include "sim/elastic/sliding_maximum.h"

namespace mmoe {

// One pipeline rank: peak = at_least + slope * (sum of k_l in flight - its least), granularity `layer`.
struct PipelineStage {
  struct Chunk {
    int64_t num_layers = 0;  // MoE layers
    int64_t in_flight = 0;   // micro-batches of which this chunk keeps activations
  };
  double at_least = 0, slope = 0;  // bytes, bytes per active expert and layer; slope >= 0
  std::vector<Chunk> chunks;
  int64_t num_layers() const;
  int64_t width() const;  // most micro-batches in flight of a chunk
};

struct PipelineGoal {
  std::optional<double> memory_limit;  // bytes; or
  std::optional<double> saving;        // 1 - budgeted / unbudgeted peak, each at `confidence` over the horizon
  double confidence = 0.99;            // in (0, 1)
  double steps = 1;                    // horizon
  double replicas = 1;                 // that draw on their own
  int64_t num_micro_batches = 1;       // of a replica's step
};

// The sum of k_l in flight of one stage. `bound`: on the sum of k_l over its layers in one micro-batch; kind kWindow is
// no bound of a micro-batch and is refused (MMOE_CHECK). Exact for one chunk; chunks of a stage hold different
// micro-batches but for a few, and count as independent, which a bound makes pessimistic.
DiscreteLaw in_flight_sum(const ElasticConfig& config, const PipelineStage& stage, BudgetKind kind, int64_t bound);

// As tune_budget: least KL (nats of one micro-batch, all stages) with P(no stage passes the limit over the horizon) >=
// confidence, for kinds at_most and exact by the knapsack over stages. Windows, replicas, stages and steps count as
// independent: sliding sums of independent draws are associated, so the true probability is no smaller (Esary,
// Proschan, Walkup 1967). Kind window, for stages of one chunk: the largest bound whose peak is within the limit, a
// promise that no draw can break; its KL is simulated (kl_standard_error). Groups are the stages with MoE layers, in
// order.
BudgetTuning tune_pipeline_budget(const ElasticConfig& config, const std::vector<PipelineStage>& stages,
                                  const PipelineGoal& goal);

// P(some stage passes `limit` at some time of the horizon) by the law of the sliding sum itself (sliding_maximum_tail),
// for stages of one chunk and a budget of kind at_most or exact. Stages share no layer, so they are independent.
TailProbability passing_probability(const ElasticConfig& config, const std::vector<PipelineStage>& stages,
                                    const PipelineGoal& goal, const Budget& budget, double limit,
                                    int64_t num_samples = 500);

}  // namespace mmoe
