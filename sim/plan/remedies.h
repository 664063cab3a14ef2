#pragma once
// The smallest single changes that make a job fit that does not.

#include <functional>
#include <string>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// One change that makes a job fit that does not.
struct Remedy {
  std::string change;                 // "recompute everything"
  Overrides settings;                 // {"training.recompute", "full"}; several where they go together
  double probability = 0;             // of fitting after it
  double tokens_per_second_lost = 0;  // per device
};

struct Outcome {
  double probability = 0;  // of fitting
  double tokens_per_second_per_device = 0;
};

// The command line that predicts the job with one change more: "mmoe simulate --job j.json --training.recompute
// 'full'".
std::string command_of(const Job& job, const Remedy& remedy);

nlohmann::json to_json(const Job& job, const std::vector<Remedy>& remedies);

// Makes one change at a time (recomputation, micro-batch, degrees, sharding, offload, allocator); keeps those that are
// valid and fit with `confidence`, the least tokens/s lost first. `evaluate` may throw ConfigError for jobs that it
// does not cover.
std::vector<Remedy> find_remedies(const Job& job, double tokens_per_second, double confidence,
                                  const std::function<Outcome(const Job&)>& evaluate);

}  // namespace mmoe
