#pragma once
// Fits a calibration's parameters to profiles and reports the error on records that were not fitted.

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "profiles/store/profile.h"
#include "sim/calibration/calibration.h"
#include "sim/calibration/error_summary.h"
#include "sim/config/job.h"

namespace mmoe {

// A profile with its jobs read.
struct ProfiledJobs {
  Profile profile;
  std::vector<Job> jobs;  // one for each of profile.jobs
  std::string where;      // file, for messages
};

// Loads a profile and reads its jobs; throws ConfigError.
ProfiledJobs load_profiled_jobs(const std::string& path);

struct FitOptions {
  // Held out: of several jobs every third, never the first and never the only one of its precision; of one job every
  // third k of the operations that depend on it and every third step. Collectives: see fit_links.
  bool hold_out = true;
  int max_evaluations = 20000;
};

struct FitResult {
  Calibration calibration;
  // By quantity (operation_seconds, step_seconds, peak_allocated_bytes, collective_seconds): the initial and the fitted
  // calibration on the records that were not fitted; without held-out records of a quantity it is absent.
  std::map<std::string, ErrorSummary> before, after;
  std::map<std::string, ErrorSummary> fitted;  // the fitted calibration on the records it was fitted to
  std::vector<std::string> held_out;           // what was held out, in words
  std::vector<std::string> not_fitted;         // of links: what the records leave open, a line each
  int64_t fitted_records = 0;
  int64_t held_out_records = 0;
  int64_t ignored_records = 0;  // operations that the model does not know, times of 0
};

// Finds the parameters that explain the measured times best: logarithms of ratios, each weighted by its share of the
// step, robust against outliers (pseudo-Huber), with the initial values and their standard errors as prior;
// links by fit_links. All profiles must be of one device. Throws ConfigError when they are not or when nothing can be
// fitted.
FitResult fit_calibration(const std::vector<ProfiledJobs>& profiles, const Calibration& initial,
                          const FitOptions& options = {});

nlohmann::json to_json(const FitResult& result);

}  // namespace mmoe
