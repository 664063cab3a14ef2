#include "sim/elastic/discrete_law.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {

DiscreteLaw::DiscreteLaw(int64_t first, std::vector<double> weights)
    : first_(first), probabilities_(std::move(weights)) {
  double total = 0;
  for (const double weight : probabilities_) {
    MMOE_CHECK(weight >= 0) << "weight " << weight;
    total += weight;
  }
  MMOE_CHECK(total > 0 && std::isfinite(total)) << "weights sum to " << total;
  for (double& probability : probabilities_) probability /= total;
}

double DiscreteLaw::probability(int64_t value) const {
  return value < min() || value > max() ? 0 : probabilities_[static_cast<size_t>(value - first_)];
}

double DiscreteLaw::mean() const {
  double sum = 0;
  for (size_t i = 0; i < probabilities_.size(); ++i) sum += static_cast<double>(i) * probabilities_[i];
  return static_cast<double>(first_) + sum;
}

double DiscreteLaw::variance() const {
  const double center = mean() - static_cast<double>(first_);
  double sum = 0;
  for (size_t i = 0; i < probabilities_.size(); ++i) {
    sum += probabilities_[i] * (static_cast<double>(i) - center) * (static_cast<double>(i) - center);
  }
  return sum;
}

double DiscreteLaw::std() const { return std::sqrt(variance()); }

double DiscreteLaw::cdf(int64_t value) const {
  if (value >= max()) return 1;
  double sum = 0;
  for (int64_t v = first_; v <= value; ++v) sum += probability(v);
  return sum;
}

int64_t DiscreteLaw::quantile(double q) const {
  MMOE_CHECK(q >= 0 && q <= 1) << q;
  double tail = 0;  // from the top, where the digits that decide a high quantile are
  for (int64_t v = max(); v > first_; --v) {
    tail += probability(v);
    if (tail > (1 - q) * (1 + 1e-12) + 1e-300) return v;
  }
  return first_;
}

double DiscreteLaw::entropy() const {
  double sum = 0;
  for (const double p : probabilities_) sum -= p > 0 ? p * std::log(p) : 0;
  return sum;
}

double DiscreteLaw::divergence(const DiscreteLaw& from) const {
  double sum = 0;
  for (int64_t v = min(); v <= max(); ++v) {
    const double p = probability(v), q = from.probability(v);
    if (p > 0) sum += q > 0 ? p * std::log(p / q) : std::numeric_limits<double>::infinity();
  }
  return std::max(0.0, sum);
}

DiscreteLaw DiscreteLaw::convolve(const DiscreteLaw& other) const {
  std::vector<double> sums(probabilities_.size() + other.probabilities_.size() - 1);
  for (size_t i = 0; i < probabilities_.size(); ++i) {
    if (probabilities_[i] == 0) continue;
    for (size_t j = 0; j < other.probabilities_.size(); ++j) sums[i + j] += probabilities_[i] * other.probabilities_[j];
  }
  return DiscreteLaw(first_ + other.first_, std::move(sums));
}

DiscreteLaw DiscreteLaw::sum_of(int64_t n) const {
  MMOE_CHECK(n >= 0) << n;
  DiscreteLaw result;
  DiscreteLaw power = *this;
  for (; n > 0; n /= 2) {
    if (n % 2 == 1) result = result.convolve(power);
    if (n > 1) power = power.convolve(power);
  }
  return result;
}

DiscreteLaw DiscreteLaw::maximum(int64_t n) const {
  MMOE_CHECK(n >= 1) << n;
  return DiscreteLaw(first_, values().maximum(static_cast<double>(n)).probabilities());
}

ValueLaw DiscreteLaw::values() const {
  std::vector<std::pair<double, double>> outcomes;
  for (size_t i = 0; i < probabilities_.size(); ++i) {
    outcomes.emplace_back(static_cast<double>(first_ + static_cast<int64_t>(i)), probabilities_[i]);
  }
  return ValueLaw(std::move(outcomes));
}

Summary DiscreteLaw::summary() const {
  return {mean(), std(), static_cast<double>(quantile(0.5)), static_cast<double>(quantile(0.99)),
          static_cast<double>(max())};
}

}  // namespace mmoe
