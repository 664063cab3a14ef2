#pragma once
// What makes a job fit of which `mmoe plan` finds nothing that does.

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "sim/cli/plan_request.h"
#include "sim/plan/remedies.h"

namespace mmoe {

// The job with settings over its own and over its flags; what it leaves open stays open.
using OpenJob = std::function<Job(const Overrides&)>;

// Searches the job again after one change at a time; tokens/s are lost from the fastest layout were memory no limit, at
// the job's own law. Of a job that our trainer could run only what it runs too. `calibration`: the file that
// --calibration names, or empty.
std::vector<Remedy> find_plan_remedies(const OpenJob& load, const std::string& calibration, const PlanRequest& request);

// Adds `remedies`, each with the command of `mmoe plan` that finds what it promises.
void add_remedies(nlohmann::json& answer, const Job& job, const std::vector<Remedy>& found,
                  const std::string& calibration, const PlanRequest& request);

}  // namespace mmoe
