#pragma once
// The law of the most that a pipeline rank holds in flight over a step, by its own order of passes.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sim/config/elastic_config.h"
#include "sim/schedule/passes.h"

namespace mmoe {

struct TailProbability {
  double value = 0;
  double standard_error = 0;  // 0: exact
};

// What one micro-batch may draw in the layers of one chunk, before any budget: the sum of its k_l - k_min, and the
// cells that the chunk keeps for it.
struct ChunkOutcome {
  int64_t sum = 0, cells = 0;
  double probability = 0;
};
using ChunkLaw = std::vector<ChunkOutcome>;

// Of `num_layers` layers, each of which keeps cells[k - k_min].
ChunkLaw chunk_law(const ElasticConfig& config, int64_t num_layers, const std::vector<int64_t>& cells);

// P(the cells held pass `room` at some time of a step) on a rank whose passes come in this order: a forward pass brings
// a micro-batch into a chunk, its last backward pass takes it away. Micro-batches draw on their own, each under a bound
// (kind at_most or exact) on its sum of k_l - k_min over the rank's chunks. Nothing where a micro-batch does not leave
// its chunks in the opposite order.
//
// Exact by carrying the law of what is held where that is few states. Else simulated without bias (Naiman, Priebe,
// "Computing scan statistic p values using importance sampling", JCGS 10, 2001): a time is chosen in proportion to the
// exact probability that what is held then passes, those micro-batches are drawn given that it does, the rest freely,
// and the sum of all times' probabilities is weighted by 1 / (times that pass), so the relative error does not grow as
// the probability falls. It lies between the highest of the times' probabilities and the sum of them.
std::optional<TailProbability> in_flight_maximum_tail(const std::vector<ChunkLaw>& chunks, BudgetKind kind,
                                                      int64_t bound, std::span<const Pass> order, int64_t room,
                                                      int64_t num_samples = 2000, uint64_t seed = 0);

}  // namespace mmoe
