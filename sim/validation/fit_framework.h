#pragma once
// Fits a framework's speed on a device to measured step times.

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/validation/validate.h"

namespace mmoe {

struct FrameworkFitOptions {
  std::vector<std::string> frameworks;  // rows of these alone; empty: all
  std::vector<std::string> devices;     // rows of these alone; empty: all
  // What is fitted: names of TimeParameters or NetworkParameters; "a+b" gives both one value; "a@NAME" fits a value of
  // its own for the rows of one framework or device, "a@NAME+OTHER" of either.
  std::vector<std::string> parameters;
  // Where the fit starts and what it is drawn to, for all numbers of time and network: "defaults" (of the code, which
  // no row has touched), "own" (each row's framework file, which may have been fitted to these very rows: its held-out
  // errors then flatter), or a framework preset or file.
  std::string start = "defaults";
  double least_mfu = 0;    // rows below are left out
  int64_t num_folds = 5;   // held out: models (hidden size, layers, experts) dealt to folds; 0: none
  bool by_device = false;  // what is held out together: a model on one device rather than a model on all
};

struct FittedParameter {
  std::string name;
  double value = 0, initial = 0, low = 0, high = 0;
  double prior_width = 0;              // standard deviation of the prior about `initial`
  double fold_low = 0, fold_high = 0;  // least and largest value of the folds
};

struct FittedRow {
  std::string id, stratum, group;
  double measured = 0, fitted = 0, held_out = 0;  // seconds; held_out 0: none
};

struct FrameworkFit {
  std::vector<FittedParameter> parameters;
  int64_t num_rows = 0;
  QuantityScore before, fitted, held_out;
  std::map<std::string, QuantityScore> fitted_by_stratum, held_out_by_stratum;
  std::vector<FittedRow> rows;
};

// Least squares of log(predicted / measured) with a soft-L1 loss (scale 5 %), parameters inside their physical ranges,
// drawn to their initial values by a normal prior as wide as a quarter of the range; the best of several starts. Rows
// give step_seconds or mfu. A held-out row's interval has the spread of the other groups of its stratum (of all strata
// where there is none), so coverage is of rows that neither the fit nor the interval has seen. Throws ConfigError.
FrameworkFit fit_framework(const std::vector<const CsvTable*>& tables, const FrameworkFitOptions& options);

nlohmann::json to_json(const FrameworkFit& fit);

}  // namespace mmoe
