#pragma once
// Laws on integers: a draw of k, sums of draws.

#include <cstdint>
#include <vector>

#include "sim/elastic/value_law.h"

namespace mmoe {

// A law on first, first + 1, ..., max(). The bounds are those of the support even where probabilities underflow to 0.
class DiscreteLaw {
 public:
  DiscreteLaw() = default;
  // Weights need not be normalised; they are not negative and not all 0.
  DiscreteLaw(int64_t first, std::vector<double> weights);
  static DiscreteLaw certain(int64_t value) { return DiscreteLaw(value, {1}); }

  int64_t min() const { return first_; }
  int64_t max() const { return first_ + static_cast<int64_t>(probabilities_.size()) - 1; }
  const std::vector<double>& probabilities() const { return probabilities_; }  // of min(), min() + 1, ...
  double probability(int64_t value) const;
  double mean() const;
  double variance() const;
  double std() const;
  double cdf(int64_t value) const;                       // P(X <= value)
  int64_t quantile(double q) const;                      // least v with P(X <= v) >= q (compared to 1e-12)
  double entropy() const;                                // nats
  double divergence(const DiscreteLaw& from) const;      // KL, nats; infinite where `from` never draws what this does
  DiscreteLaw convolve(const DiscreteLaw& other) const;  // of the sum of independent X and Y
  DiscreteLaw sum_of(int64_t n) const;                   // of the sum of n independent copies, n >= 0
  DiscreteLaw maximum(int64_t n) const;                  // of the largest of n independent copies, n >= 1
  ValueLaw values() const;
  Summary summary() const;

 private:
  int64_t first_ = 0;
  std::vector<double> probabilities_ = {1};
};

}  // namespace mmoe
