#pragma once
// Memory of ranks that share experts while their replicas draw k on their own.

#include <cstdint>

#include "sim/cluster/expert_pairs.h"
#include "sim/config/job.h"
#include "sim/elastic/pipeline_budget.h"

namespace mmoe {

// Data-parallel replicas that one expert-parallel group spans: their like-numbered micro-batches run together, and each
// rank gets the rows that all of them route to its experts.
int64_t replicas_in_expert_group(const Job& job);

// The ranks of one such group of a job without pipeline ranks, as our trainer runs it. What a layer takes is a function
// of the rank's own k and of the rows of all replicas, each by its own k; where one moment of the layer is the highest
// at all of them it is a plane in these, and the peak at each layer an exact sum over layers and replicas. Elsewhere
// the least plane of the same slopes that is nowhere below stands for it, and peaks are too high.
GroupMemory expert_group_memory(const Job& job, const ExpertPairs& pairs);

}  // namespace mmoe
