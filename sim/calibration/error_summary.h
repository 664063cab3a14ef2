#pragma once
// How far predictions lie from measurements.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "sim/calibration/calibration.h"

namespace mmoe {

struct MeasuredPrediction {
  double measured = 0;  // above 0
  double predicted = 0;
  Interval interval;  // 90 %
};

// Errors are fractions: predicted / measured - 1.
struct ErrorSummary {
  int64_t count = 0;
  double mean_absolute_error_fraction = 0;
  double median_absolute_error_fraction = 0;
  double max_absolute_error_fraction = 0;
  double bias_fraction = 0;      // mean of the signed error
  double interval_coverage = 0;  // fraction of measurements inside their interval
};

ErrorSummary summarize_errors(const std::vector<MeasuredPrediction>& predictions);

void to_json(nlohmann::json& json, const ErrorSummary& summary);

// Median of values in any order; 0 of none.
double median(std::vector<double> values);

}  // namespace mmoe
