#pragma once
// Small jobs of other shapes that a profile measures beside its own, so that calibration sees how time depends on
// shape.

#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// Two-layer variants of `job`: wider, wider experts, longer sequences with fewer tokens, a larger vocabulary. Each fits
// where the job fits and runs in a fraction of its time or a small multiple of it.
std::vector<Job> probe_jobs(const Job& job);

}  // namespace mmoe
