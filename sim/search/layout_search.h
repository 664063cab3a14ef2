#pragma once
// Searches every valid layout of a cluster job: degrees, schedule, sharding, micro-batch and recomputation.

#include <map>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "sim/framework/framework.h"

namespace mmoe {

// One layout that fits. Time and memory are those of the fast evaluation; a search ranks by them. The full simulation
// (sim/plan/cluster_plan.h) agrees within 1 % where k is not drawn; what it adds is the waiting for uneven draws and the
// holes that a replay of the allocator finds.
struct LayoutCandidate {
  ParallelismConfig parallelism;
  int64_t micro_batch_size = 1;
  Recompute recompute;
  DispatcherKind dispatcher = DispatcherKind::kAllToAll;
  double step_seconds = 0;
  double peak_bytes = 0;  // of the worst rank, at the largest draw that the law allows
};

struct LayoutSearchOptions {
  int64_t top = 10;
  double confidence = 0.99;  // of fitting, over the memory model's error
  int num_threads = 2;
};

// Why layouts were rejected.
struct Rejection {
  int64_t count = 0;
  double least_excess_bytes = 0;  // of those that do not fit: the closest one's excess over the limit
};

struct LayoutSearchResult {
  std::vector<LayoutCandidate> candidates;  // the fastest that fit
  std::vector<LayoutCandidate> front;       // no other that fits is both faster and smaller; fastest first
  int64_t evaluated = 0;                    // layouts whose time and memory were worked out
  std::map<std::string, Rejection> rejected;
  double seconds = 0;
};

// Keys of Job::given stay as they are; all others are tried in every valid combination at the job's own elastic law.
// A budget's bound over the model is shared out again over the pipeline ranks. Throws ConfigError.
LayoutSearchResult search_layouts(const Job& job, const Framework& framework, const LayoutSearchOptions& options = {});

// The job with a candidate's layout.
Job with_layout(const Job& job, const LayoutCandidate& candidate);

}  // namespace mmoe
