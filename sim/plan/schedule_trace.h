#pragma once
// The predicted schedule of a job as a Chrome and Perfetto trace.

#include <nlohmann/json.hpp>

#include "sim/config/job.h"
#include "sim/framework/framework.h"

namespace mmoe {

// One step at the mean k: a process a pipeline rank.
nlohmann::json schedule_trace(const Job& job, const Framework& framework);

}  // namespace mmoe
