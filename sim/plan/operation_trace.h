#pragma once
// The predicted operations of one step on one device as a Chrome and Perfetto trace.

#include <cstdint>
#include <nlohmann/json.hpp>

#include "sim/calibration/calibration.h"
#include "sim/config/job.h"

namespace mmoe {

// Step `step` (from 1) at the k that the job's seed draws for it, in the order and with the names of `mmoe train
// --trace`: the step, passes of micro-batches, layers with their k, operations. Times in microseconds from the step's
// beginning; operations and overhead add up to StepTimeModel::step_seconds. ConfigError for top_p, which draws k by
// token.
nlohmann::json operation_trace(const Job& job, const Calibration& calibration, int64_t step);

}  // namespace mmoe
