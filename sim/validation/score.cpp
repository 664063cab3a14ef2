#include "sim/validation/score.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "sim/validation/error_spread.h"

namespace mmoe {
namespace {

using RowsByQuantity = std::map<std::string, std::vector<const ScoredRow*>>;

std::map<std::string, QuantityScore> scores(const RowsByQuantity& rows) {
  std::map<std::string, QuantityScore> result;
  for (const auto& [quantity, of_quantity] : rows) result[quantity] = score(of_quantity);
  return result;
}

// Mean of the shares of both outcomes that are told right; of the one outcome where there is no other, 0 of no row.
double balanced_accuracy(const std::vector<const ScoredRow*>& rows) {
  double count[2] = {0, 0}, right[2] = {0, 0};
  for (const ScoredRow* row : rows) {
    const int fits = row->measured > 0.5 ? 1 : 0;
    ++count[fits];
    right[fits] += (row->predicted >= 0.5 ? 1 : 0) == fits;
  }
  double sum = 0, outcomes = 0;
  for (const int fits : {0, 1}) {
    if (count[fits] == 0) continue;
    sum += right[fits] / count[fits];
    ++outcomes;
  }
  return outcomes > 0 ? sum / outcomes : 0;
}

bool has_both_outcomes(const std::vector<const ScoredRow*>& rows) {
  const auto fits = std::count_if(rows.begin(), rows.end(), [](const ScoredRow* row) { return row->measured > 0.5; });
  return fits > 0 && fits < static_cast<std::ptrdiff_t>(rows.size());
}

QuantityScore classifier_score(const std::vector<const ScoredRow*>& rows) {
  constexpr double kGiB = 1073741824, kLow = 60 * kGiB, kHigh = 100 * kGiB;
  std::vector<const ScoredRow*> hard;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(hard),
               [](const ScoredRow* row) { return row->peak_bytes >= kLow && row->peak_bytes <= kHigh; });
  QuantityScore result;
  result.count = static_cast<int64_t>(rows.size());
  result.balanced_accuracy = balanced_accuracy(rows);
  result.both_outcomes = has_both_outcomes(rows);
  result.count_of_hard = static_cast<int64_t>(hard.size());
  result.balanced_accuracy_of_hard = balanced_accuracy(hard);
  return result;
}

nlohmann::json score_json(const std::string& quantity, const QuantityScore& s) {
  if (quantity == kFitsQuantity) {
    return {{"count", s.count},
            {"balanced_accuracy", s.balanced_accuracy},
            {"both_outcomes", s.both_outcomes},
            {"count_60_to_100_gib", s.count_of_hard},
            {"balanced_accuracy_60_to_100_gib", s.balanced_accuracy_of_hard}};
  }
  return {{"count", s.count},
          {"mean_absolute_error_fraction", s.mean_absolute_error_fraction},
          {"median_absolute_error_fraction", s.median_absolute_error_fraction},
          {"max_absolute_error_fraction", s.max_absolute_error_fraction},
          {"bias_fraction", s.bias_fraction},
          {"interval_coverage", s.interval_coverage},
          {"spread", s.spread}};
}

nlohmann::json scores_json(const std::map<std::string, QuantityScore>& scores) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [quantity, of_quantity] : scores) json[quantity] = score_json(quantity, of_quantity);
  return json;
}

}  // namespace

double ValidationReport::coverage() const {
  return num_runs == 0 ? 0 : 1 - static_cast<double>(unmodelled.size()) / static_cast<double>(num_runs);
}

QuantityScore score(const std::vector<const ScoredRow*>& rows) {
  if (rows.front()->quantity == kFitsQuantity) return classifier_score(rows);
  QuantityScore result;
  std::vector<double> errors;
  std::vector<GroupedError> grouped;
  for (const ScoredRow* row : rows) {
    const double error = row->error_fraction();
    errors.push_back(std::abs(error));
    grouped.push_back({row->group, std::log1p(error)});
    result.mean_absolute_error_fraction += std::abs(error);
    result.bias_fraction += error;
    result.interval_coverage += row->low <= row->measured && row->measured <= row->high;
  }
  const auto count = static_cast<double>(rows.size());
  result.count = static_cast<int64_t>(rows.size());
  result.mean_absolute_error_fraction /= count;
  result.bias_fraction /= count;
  result.interval_coverage /= count;
  std::sort(errors.begin(), errors.end());
  result.median_absolute_error_fraction = (errors[(errors.size() - 1) / 2] + errors[errors.size() / 2]) / 2;
  result.max_absolute_error_fraction = errors.back();
  result.spread = predictive_spread(grouped);
  return result;
}

std::map<std::string, QuantityScore> summary(const ValidationReport& report) {
  RowsByQuantity rows;
  for (const ScoredRow& row : report.rows) rows[row.quantity].push_back(&row);
  return scores(rows);
}

std::map<std::string, std::map<std::string, QuantityScore>> summary_by_stratum(const ValidationReport& report) {
  std::map<std::string, RowsByQuantity> rows;
  for (const ScoredRow& row : report.rows) rows[row.stratum][row.quantity].push_back(&row);
  std::map<std::string, std::map<std::string, QuantityScore>> result;
  for (const auto& [stratum, of_stratum] : rows) result[stratum] = scores(of_stratum);
  return result;
}

nlohmann::json to_json(const ValidationReport& report) {
  nlohmann::json rows = nlohmann::json::array(), unmodelled = nlohmann::json::array();
  for (const ScoredRow& row : report.rows) {
    nlohmann::json json = {{"id", row.id},          {"quantity", row.quantity}, {"measured", row.measured},
                           {"low", row.low},        {"high", row.high},         {"predicted", row.predicted},
                           {"stratum", row.stratum}};
    if (row.quantity != kFitsQuantity) json["error_fraction"] = row.error_fraction();
    rows.push_back(std::move(json));
  }
  for (const UnmodelledRow& row : report.unmodelled) unmodelled.push_back({{"id", row.id}, {"reason", row.reason}});
  nlohmann::json strata = nlohmann::json::object();
  for (const auto& [stratum, of_stratum] : summary_by_stratum(report)) strata[stratum] = scores_json(of_stratum);
  return {{"rows", rows},
          {"unmodelled", unmodelled},
          {"coverage", report.coverage()},
          {"summary", scores_json(summary(report))},
          {"summary_by_stratum", strata}};
}

}  // namespace mmoe
