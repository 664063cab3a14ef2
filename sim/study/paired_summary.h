#pragma once
// Differences of two arms of a study, paired by seed.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace mmoe {

// Mean of n paired differences with Student's t intervals (n - 1 degrees of freedom). With n = 1 there is no spread:
// the bounds are infinite.
struct PairedSummary {
  int64_t count = 0;
  double mean = 0, std = 0;
  double low = 0, high = 0;                 // two-sided 95 %
  double lower_bound = 0, upper_bound = 0;  // one-sided 95 % each
  // True difference of means that a one-sided test at 5 % finds with a probability of 80 % (t_0.95 + t_0.8 standard
  // errors: the noncentral law's usual approximation).
  double smallest_resolvable = 0;
};
void to_json(nlohmann::json& json, const PairedSummary& summary);

// Needs one difference (MMOE_CHECK).
PairedSummary paired_summary(const std::vector<double>& differences);

// Whether an arm is as good as the baseline up to a margin fixed beforehand (a non-inferiority test; Piaggio et al.,
// "Reporting of noninferiority and equivalence randomized trials", JAMA 308, 2012). Differences: arm minus baseline,
// higher is worse.
enum class Competitiveness {
  kCompetitive,  // the upper bound lies under the margin
  kWorse,        // the lower bound lies above it
  kUnresolved    // neither
};
Competitiveness competitiveness(const PairedSummary& difference, double margin);
const char* to_string(Competitiveness verdict);

}  // namespace mmoe
