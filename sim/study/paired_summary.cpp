#include "sim/study/paired_summary.h"

#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "sim/units/errors.h"

namespace mmoe {

PairedSummary paired_summary(const std::vector<double>& differences) {
  MMOE_CHECK(!differences.empty()) << "no differences";
  PairedSummary summary;
  summary.count = static_cast<int64_t>(differences.size());
  const auto n = static_cast<double>(differences.size());
  for (const double difference : differences) summary.mean += difference / n;
  if (summary.count == 1) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    summary.low = summary.lower_bound = -kInfinity;
    summary.high = summary.upper_bound = summary.smallest_resolvable = kInfinity;
    return summary;
  }
  double squares = 0;
  for (const double difference : differences) squares += (difference - summary.mean) * (difference - summary.mean);
  summary.std = std::sqrt(squares / (n - 1));
  const double error = summary.std / std::sqrt(n);
  const boost::math::students_t law(n - 1);
  const double two_sided = quantile(law, 0.975) * error, one_sided = quantile(law, 0.95) * error;
  summary.low = summary.mean - two_sided;
  summary.high = summary.mean + two_sided;
  summary.lower_bound = summary.mean - one_sided;
  summary.upper_bound = summary.mean + one_sided;
  summary.smallest_resolvable = one_sided + quantile(law, 0.8) * error;
  return summary;
}

void to_json(nlohmann::json& json, const PairedSummary& summary) {
  json = {{"count", summary.count},
          {"mean", summary.mean},
          {"std", summary.std},
          {"low", summary.low},
          {"high", summary.high},
          {"lower_bound", summary.lower_bound},
          {"upper_bound", summary.upper_bound},
          {"smallest_resolvable", summary.smallest_resolvable}};  // infinite ones become null
}

Competitiveness competitiveness(const PairedSummary& difference, double margin) {
  if (difference.upper_bound < margin) return Competitiveness::kCompetitive;
  if (difference.lower_bound > margin) return Competitiveness::kWorse;
  return Competitiveness::kUnresolved;
}

const char* to_string(Competitiveness verdict) {
  switch (verdict) {
    case Competitiveness::kCompetitive:
      return "competitive";
    case Competitiveness::kWorse:
      return "worse";
    case Competitiveness::kUnresolved:
      return "unresolved";
  }
  return "";
}

}  // namespace mmoe
