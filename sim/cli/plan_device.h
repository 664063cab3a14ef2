#pragma once
// mmoe plan for jobs on one device.

#include <nlohmann/json.hpp>

#include "sim/cli/plan_request.h"
#include "sim/search/plan_search.h"

namespace mmoe {

// Whether a budget is tuned where a candidate does not fit: asked for, or left to us by the job.
bool searches_budget(const Job& job, const PlanRequest& request);

// Throws ConfigError where the layout does not suit one device.
PlanSearchResult find_device_plans(const Job& job, const Calibration& calibration, const PlanRequest& request);

nlohmann::json to_json(const PlanSearchResult& result, const PlanRequest& request);
void print(const PlanSearchResult& result, const PlanRequest& request);

}  // namespace mmoe
