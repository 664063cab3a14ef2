#pragma once
// The smallest single changes that make a job fit that does not.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// One change to a job: "recompute whole layers", {"training.recompute", "full"}; several settings where they go
// together.
struct Change {
  std::string name;
  Overrides settings;
  bool is_larger = false;  // than the change before it, of the same kind: tried only where that was not enough
};

struct Outcome {
  double probability = 0;  // of fitting
  double tokens_per_second_per_device = 0;
};

// A change that makes a job fit that does not.
struct Remedy {
  std::string change;
  Overrides settings;
  double probability = 0;                        // of fitting after it
  std::optional<double> tokens_per_second_lost;  // per device; nothing where no layout is possible without the change
};

// Of a job with a layout: recomputation, micro-batch, degrees, sharding, offload, allocator.
std::vector<Change> layout_changes(const Job& job);

// Of a job whose open keys are searched: what it gives of them is left open; attention, allocator, a budget, more
// devices.
std::vector<Change> search_changes(const Job& job);

struct RemedySearch {
  std::vector<Change> changes;
  std::function<Job(const Overrides&)> load;                   // the job with settings over its own
  std::function<std::optional<Outcome>(const Job&)> evaluate;  // nothing: does not fit
  std::optional<double> tokens_per_second;                     // per device, before
};

// Makes one change at a time; the least tokens/s lost first. `load` and `evaluate` may throw ConfigError for jobs that
// are impossible or not covered.
std::vector<Remedy> find_remedies(const RemedySearch& search);

// Of a job with a layout those that fit with `confidence`.
std::vector<Remedy> find_remedies(const Job& job, double tokens_per_second, double confidence,
                                  const std::function<Outcome(const Job&)>& evaluate);

// Flags with settings over them: those that a setting replaces, or part of whose value it is, are gone.
Overrides with_settings(const Overrides& flags, const Overrides& settings);

// The command line that answers for the job with settings over its own: "mmoe simulate --job j.json
// --training.recompute full".
std::string command_of(const std::string& command, const Job& job, const Overrides& settings);

// `flags`: words at the end of each command, or empty.
nlohmann::json to_json(const std::string& command, const Job& job, const std::vector<Remedy>& remedies,
                       const std::string& flags = "");

}  // namespace mmoe
