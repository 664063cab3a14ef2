#pragma once
// Laws on finitely many real values (bytes, seconds), and the summary of a law that results print.

#include <nlohmann/json_fwd.hpp>
#include <utility>
#include <vector>

namespace mmoe {

struct Summary {
  double mean = 0, std = 0, p50 = 0, p99 = 0;
  double max = 0;  // the largest value that the law allows, however improbable
};
void to_json(nlohmann::json& json, const Summary& summary);  // {mean, std, p50, p99, max}

// A law on real values. Upper tails are summed from the top, so that a probability of 1e-15 keeps its digits.
class ValueLaw {
 public:
  ValueLaw() = default;
  // Value and probability of each outcome, in any order; equal values are merged and the probabilities normalised. A
  // value of probability 0 belongs to the support (it counts for max()).
  explicit ValueLaw(std::vector<std::pair<double, double>> outcomes);

  const std::vector<double>& values() const { return values_; }  // ascending, distinct
  const std::vector<double>& probabilities() const { return probabilities_; }
  double min() const { return values_.front(); }
  double max() const { return values_.back(); }
  double mean() const;
  double std() const;
  double cdf(double x) const;   // P(X <= x)
  double tail(double x) const;  // P(X > x)

  // Least value v with P(X <= v) >= q, for 0 <= q <= 1 (compared to 1e-12, so that sums of rounded terms do not step
  // over).
  double quantile(double q) const;
  // The same for the largest of n independent copies.
  double quantile_of_maximum(double q, double n) const;
  // P(largest of n independent copies <= x).
  double cdf_of_maximum(double x, double n) const;
  // The law of the largest of n independent copies.
  ValueLaw maximum(double n) const;
  ValueLaw scaled(double factor, double offset) const;  // of factor * X + offset, factor >= 0
  Summary summary() const;

 private:
  std::vector<double> values_, probabilities_, tails_;  // tails_[i] = P(X > values_[i])
};

}  // namespace mmoe
