#include "sim/calibration/error_summary.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace mmoe {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

ErrorSummary summarize_errors(const std::vector<MeasuredPrediction>& predictions) {
  ErrorSummary summary;
  summary.count = static_cast<int64_t>(predictions.size());
  if (predictions.empty()) return summary;
  std::vector<double> absolute;
  double signed_sum = 0, inside = 0;
  for (const MeasuredPrediction& p : predictions) {
    const double error = p.predicted / p.measured - 1;
    absolute.push_back(std::abs(error));
    signed_sum += error;
    inside += p.measured >= p.interval.low && p.measured <= p.interval.high ? 1 : 0;
  }
  const double count = static_cast<double>(predictions.size());
  double sum = 0;
  for (const double error : absolute) sum += error;
  summary.mean_absolute_error_fraction = sum / count;
  summary.median_absolute_error_fraction = median(absolute);
  summary.max_absolute_error_fraction = *std::max_element(absolute.begin(), absolute.end());
  summary.bias_fraction = signed_sum / count;
  summary.interval_coverage = inside / count;
  return summary;
}

void to_json(nlohmann::json& json, const ErrorSummary& summary) {
  json = {{"count", summary.count},
          {"mean_absolute_error_fraction", summary.mean_absolute_error_fraction},
          {"median_absolute_error_fraction", summary.median_absolute_error_fraction},
          {"max_absolute_error_fraction", summary.max_absolute_error_fraction},
          {"bias_fraction", summary.bias_fraction},
          {"interval_coverage", summary.interval_coverage}};
}

}  // namespace mmoe
