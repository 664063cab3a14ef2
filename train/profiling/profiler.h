#pragma once
// `mmoe profile`: time and memory of every operation at every k, and of whole steps, on this machine.

#include <functional>
#include <string>
#include <vector>

#include "profiles/store/profile.h"
#include "sim/config/job.h"

namespace mmoe {

struct ProfileOptions {
  int warmup = 2;
  int repetitions = 7;
  bool probes = true;                                     // measure jobs of other shapes too
  std::function<void(const std::string& line)> progress;  // called now and then
};

// Median, 10th and 90th percentile. Seconds in any order, not none.
Timing timing_of(std::vector<double> seconds);

// What one process trains of a job, random tokens, random initial weights; routing is therefore near balance. Throws
// ConfigError where the job's device is not there.
Profile profile_job(const Job& job, const ProfileOptions& options);

// The operations of each job alone, which run on one device; options.probes does not count.
Profile profile_operations(const std::vector<Job>& jobs, const ProfileOptions& options);

}  // namespace mmoe
