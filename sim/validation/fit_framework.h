#pragma once
// Fits a framework's speed on a device to measured step times.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/validation/validate.h"

namespace mmoe {

struct FrameworkFitOptions {
  std::vector<std::string> frameworks;  // rows of these alone; empty: all
  std::vector<std::string> devices;     // rows of these alone; empty: all
  // What is fitted: names of TimeParameters or NetworkParameters; "a+b" gives both one value; "a@NAME" fits a value of
  // its own for the rows of one framework or device.
  std::vector<std::string> parameters;
  double least_mfu = 0;   // rows below are left out
  int64_t num_folds = 5;  // held out: models (hidden size, layers, experts) dealt to folds; 0: none
};

struct FittedParameter {
  std::string name;
  double value = 0, initial = 0, low = 0, high = 0;
};

struct FrameworkFit {
  std::vector<FittedParameter> parameters;
  int64_t num_rows = 0;
  QuantityScore before, fitted, held_out;
  double held_out_spread = 0;  // robust standard deviation of log(measured / predicted) on held-out rows
};

// Least squares of log(predicted / measured) with a soft-L1 loss (scale 5 %), parameters inside their physical ranges,
// drawn weakly to their initial values. Rows give step_seconds or mfu. Throws ConfigError.
FrameworkFit fit_framework(const std::vector<const CsvTable*>& tables, const FrameworkFitOptions& options);

nlohmann::json to_json(const FrameworkFit& fit);

}  // namespace mmoe
