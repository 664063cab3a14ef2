#pragma once
// What the caching allocator reserves on one rank: its allocations of two steps, replayed.

#include "sim/allocator/replay.h"
#include "sim/cluster/memory_model.h"

namespace mmoe {

// The rank's tensors in the order in which a framework makes and frees them: weights one by one, gradients in one
// buffer, optimiser states from the end of the first step on, and for each pass of the schedule the tensors that layers
// keep, those of the loss and those of the layer at work. Of many micro-batches as many are played as the rank holds in
// flight and two more: further ones repeat. Every MoE layer at k.
std::vector<AllocationEvent> rank_allocations(const Job& job, const Framework& framework, int64_t rank, double k,
                                              double rows_factor, std::size_t& second_step);

// Peaks of the second step.
ReplayPeaks replay_rank(const Job& job, const Framework& framework, int64_t rank, double k, double rows_factor);

}  // namespace mmoe
