#pragma once
// Searches every valid layout of a cluster job: degrees, schedule, sharding, micro-batch and recomputation.

#include <map>
#include <string>
#include <vector>

#include "sim/framework/framework.h"
#include "sim/search/layout_candidate.h"
#include "sim/search/rejections.h"

namespace mmoe {

struct LayoutSearchOptions {
  int64_t top = 10;
  double confidence = 0.99;  // of fitting, over the memory model's error
  int num_threads = 2;
  // Work out, of every layout that fits, a lower bound of its step with all that the step adds to the pipeline, even
  // where less says that it is not among the best. For measurements.
  bool times_all = false;
};

struct LayoutSearchResult {
  std::vector<LayoutCandidate> candidates;     // the fastest that fit, of variants the fastest alone
  std::vector<LayoutCandidate> front;          // no other evaluated that fits is faster and smaller; fastest first
  int64_t evaluated = 0;                       // layouts judged by their memory, and where that fits timed
  std::map<std::string, Rejection> rejected;   // by reason
  std::map<FamilyKey, LayoutFamily> families;  // the same by pipeline and tensor parallel size
  double seconds = 0;
};

// Keys of Job::given stay as they are; all others are tried in every valid combination at the job's own elastic law.
// First every layout with the job's own cut into stages, groups of ZeRO and offload, then its variants in these three,
// but for those that a lower bound of their step shows to be slower than the candidates found by then.
// A budget's bound over the model is shared out again over the pipeline ranks. Throws ConfigError.
LayoutSearchResult search_layouts(const Job& job, const Framework& framework, const LayoutSearchOptions& options = {});

}  // namespace mmoe
