#pragma once
// One layout of a cluster job with its time and memory.

#include <cstddef>
#include <string>

#include "sim/config/job.h"

namespace mmoe {

// One layout. Time and memory are those of the fast evaluation; a search ranks by them. The full simulation
// (sim/plan/cluster_plan.h) agrees within 1 % where k is not drawn; what it adds is the waiting for uneven draws and
// the holes that a replay of the allocator finds.
struct LayoutCandidate {
  ParallelismConfig parallelism;
  int64_t micro_batch_size = 1;
  Recompute recompute;
  ExpertSaving expert_saving = ExpertSaving::kLean;
  DispatcherKind dispatcher = DispatcherKind::kAllToAll;
  bool overlap = true;
  Offload offload = Offload::kNone;
  double step_seconds = 0;
  double peak_bytes = 0;  // of the worst rank, at the largest draw that the law allows
  std::size_t shape = 0;  // its place in LayoutSpace::shapes(), which decides between equals
};

// Whether they differ alone in the cut into stages, the groups that ZeRO shards over, the offload, and how many layers
// are recomputed.
bool are_variants(const LayoutCandidate& a, const LayoutCandidate& b);

// The job with a candidate's layout. A budget's bound over the model is shared out again over the pipeline ranks.
Job with_layout(const Job& job, const LayoutCandidate& candidate);

}  // namespace mmoe
