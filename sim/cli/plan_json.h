#pragma once
// The simulator's answer as every command prints it.

#include <nlohmann/json.hpp>

#include "sim/cli/flags.h"
#include "sim/cli/plan_remedies.h"
#include "sim/cli/plan_request.h"
#include "sim/elastic/budget_plan.h"

namespace mmoe {

// `mmoe simulate --json` of a job: by the cluster model, with the memory of our trainer's own ranks where that is
// predicted, or on one device by the exact model of this project's trainer.
// `calibration`: the file that --calibration names, or empty.
nlohmann::json plan_json(const Job& job, const std::string& calibration);
nlohmann::json plan_json(const Flags& flags, const Job& job);

// `mmoe budget --json` of a job, on one device or several.
nlohmann::json budget_answer(const Job& job, const std::string& calibration, const BudgetRequest& request);

// `mmoe plan --json` of a job, on one device or several; what the job leaves out or sets to "auto" is searched.
nlohmann::json plan_answer(const OpenJob& load, const std::string& calibration, const PlanRequest& request);

}  // namespace mmoe
