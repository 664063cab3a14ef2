#pragma once
// Predicted against measured: errors, bias, coverage of intervals, by quantity and stratum.

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace mmoe {

// One quantity of one run. `fits` has 0 and 1 as measured, the probability of fitting as predicted.
struct ScoredRow {
  std::string id, quantity;
  double measured = 0, predicted = 0;
  double low = 0, high = 0;  // 90 % interval of the prediction
  std::string stratum;
  std::string group = {};                                     // rows of one group are not independent (model_group)
  std::vector<std::pair<std::string, std::string>> job = {};  // its main keys, for tables
  double peak_bytes = 0;                                      // of `fits`: predicted, of the largest rank
  double error_fraction() const { return predicted / measured - 1; }
};

struct UnmodelledRow {
  std::string id, reason;
};

struct QuantityScore {
  int64_t count = 0;
  double mean_absolute_error_fraction = 0, median_absolute_error_fraction = 0, max_absolute_error_fraction = 0;
  double bias_fraction = 0;  // mean signed error
  double interval_coverage = 0;
  double spread = 0;             // that makes 90 % intervals of these errors for a further group (predictive_spread)
  double balanced_accuracy = 0;  // of `fits` alone: mean of the shares of both outcomes that are told right
  bool both_outcomes = false;    // whether runs that fit and runs that do not are among them; else it says little
  // The same of the hard cases, in which 60 to 100 GiB are predicted, and how many these are.
  double balanced_accuracy_of_hard = 0;
  int64_t count_of_hard = 0;
};

struct ValidationReport {
  std::vector<ScoredRow> rows;
  std::vector<UnmodelledRow> unmodelled;
  int64_t num_runs = 0;  // rows of the table
  // Runs of which something was predicted, over all.
  double coverage() const;
};

// The score of rows of one quantity; none may be empty.
QuantityScore score(const std::vector<const ScoredRow*>& rows);

// By quantity, and by stratum and quantity.
std::map<std::string, QuantityScore> summary(const ValidationReport& report);
std::map<std::string, std::map<std::string, QuantityScore>> summary_by_stratum(const ValidationReport& report);

// The keys of design.md's `mmoe validate`.
nlohmann::json to_json(const ValidationReport& report);

inline constexpr const char* kFitsQuantity = "fits";

}  // namespace mmoe
