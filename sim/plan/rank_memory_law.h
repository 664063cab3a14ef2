#pragma once
// The law of one pipeline rank's peak over the draws of k.

#include <vector>

#include "sim/cluster/stages.h"
#include "sim/config/job.h"
#include "sim/elastic/elastic_law.h"

namespace mmoe {

// One chunk of a rank: `in_flight` micro-batches keep per_k bytes for each active expert of its MoE layers.
struct ElasticChunk {
  std::vector<int64_t> moe_layers;  // counted from 0 for the first MoE layer
  int64_t in_flight = 0;
};

// Chunks in flight of one rank when as many forward passes as it ever holds have run: chunks take turns of a group of
// micro-batches each.
std::vector<ElasticChunk> elastic_chunks(const Job& job, const std::vector<StageChunk>& held, int64_t rank);

// Whether the job's budget bounds the sums in flight (WindowSampler): kind window, one chunk and one group a rank,
// granularity `layer`. Elsewhere a window bound is taken as one on each micro-batch (ElasticLaw).
bool has_windows(const Job& job);

// Micro-batches in flight on each rank with MoE layers, under has_windows: the widths of the budget's groups.
std::vector<int64_t> window_widths(const Job& job);

// A sum over a rank's layers and the micro-batches that it holds in flight at once.
struct InFlightLaw {
  DiscreteLaw sum;
  // Windows of one step and replica: how often the rank's memory is at a height.
  double windows_per_step = 1;
};

// Of cells[k_l - k_min], which are 0 or more. Under granularity `layer` micro-batches draw on their own. Chunks of one
// rank that hold different micro-batches are independent; layers of one group that stand in different chunks count as
// independent too, which a budget over the rank makes pessimistic.
InFlightLaw in_flight_law(const ElasticLaw& law, const std::vector<ElasticChunk>& chunks, int64_t num_micro_batches,
                          const std::vector<int64_t>& cells);

// Of the real costs[k_l - k_min] over the draws of `others` further replicas, each with as many micro-batches in
// flight; on a grid that keeps the mean.
GridLaw in_flight_of_others(const ElasticLaw& law, const std::vector<ElasticChunk>& chunks, int64_t others,
                            const std::vector<double>& costs);

// Of k_l for the budget's `group` under has_windows: the largest window of a step, simulated, with one sample's weight
// on the bound itself, which sampling cannot exclude.
InFlightLaw window_in_flight(const Job& job, const ElasticChunk& chunk, std::size_t group);

}  // namespace mmoe
