#pragma once
// Predicted against measured for a run folder of this project's trainer.

#include <string>

#include "sim/calibration/calibration.h"
#include "sim/config/job.h"
#include "sim/framework/framework.h"
#include "sim/validation/score.h"

namespace mmoe {

// RUN/job.json. Throws ConfigError where the folder holds no run whose steps are predicted: on one device, or one that
// predicts_trainer_ranks.
Job own_run_job(const std::string& run_folder);

// A row for the time and one for the peak of every step of RUN/metrics.jsonl, predicted for the k that the step drew;
// steps up to `first_step` - 1 are warm-up and left out. Strata are thirds of the steps by their sum of k. Intervals
// are 90 %. Throws ConfigError naming file and line where something is missing or does not match the job.
ValidationReport validate_own_run(const std::string& run_folder, const Job& job, const Calibration& calibration,
                                  int64_t first_step = 6);

// The same of a run on several devices: of every step a row for the time, and one for the peak of every rank, for the
// rows that came to its experts in that step. These are in RUN/ranks/rank_N.jsonl, which `mmoe train --rank-logs`
// writes; without them where experts are split over ranks, throws ConfigError.
ValidationReport validate_own_ranks(const std::string& run_folder, const Job& job, const Framework& framework,
                                    int64_t first_step = 6);

}  // namespace mmoe
