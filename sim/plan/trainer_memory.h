#pragma once
// What one rank of our trainer allocates at most in a step of a job on several devices.

#include <functional>
#include <string>
#include <vector>

#include "sim/cluster/expert_pairs.h"
#include "sim/config/job.h"
#include "sim/memory/layer_memory.h"
#include "sim/units/units.h"

namespace mmoe {

struct TrainerRankPeak {
  // There in every step from the second on; buffers: tables, the step's report, and on the CPU its tokens.
  Bytes weights, gradients, optimizer, buffers;
  Bytes total;
  std::string moment;  // "layer 3 backward", "loss head", "gathering weights", ...
  Bytes persistent() const { return weights + gradients + optimizer + buffers; }
};

// What a rank holds beside what is persistent during one pass of its schedule: at the highest moment what the passes
// keep and what is at work above it, and what stays when the pass is over.
struct PassMemory {
  double kept = 0, above = 0;
  std::string moment;
  double after = 0;
};

// The passes of the rank's schedule, played one after another; `k` of [global micro-batch][MoE layer]. For the layouts
// that our trainer runs. Where experts are split over ranks, each gets the share of the rows that training.moe.load
// says, the same at every k: an equal one by default, that of the busiest rank for random loads.
TrainerRankPeak trainer_rank_peak(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k);
// With the rows that `pairs` says instead.
TrainerRankPeak trainer_rank_peak(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k,
                                  const ExpertPairs& pairs);

// What comes to a rank's experts in one of its micro-batches and MoE layers, both counted from 0: over the rank's own,
// and over the model's.
using RoutedPairsOf = std::function<RoutedPairs(int64_t micro_batch, int64_t moe_layer)>;
// With these rows: a step's own, where it has been run.
TrainerRankPeak trainer_rank_peak(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k,
                                  const RoutedPairsOf& routed);

// The same pass by pass, in the order of the rank's schedule, and last what follows them: gradients are summed, weights
// gathered. The highest is the peak.
std::vector<PassMemory> trainer_pass_memory(const Job& job, int64_t rank, const std::vector<std::vector<int>>& k);

}  // namespace mmoe
