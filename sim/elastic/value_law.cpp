#include "sim/elastic/value_law.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr double kSlack = 1e-12;  // relative, in comparisons of probabilities

// log of P(X <= values[i]) from whichever side keeps its digits.
double log_cdf(double cdf, double tail) { return tail < 0.5 ? std::log1p(-tail) : std::log(cdf); }

}  // namespace

void to_json(nlohmann::json& json, const Summary& summary) {
  json = {
      {"mean", summary.mean}, {"std", summary.std}, {"p50", summary.p50}, {"p99", summary.p99}, {"max", summary.max}};
}

ValueLaw::ValueLaw(std::vector<std::pair<double, double>> outcomes) {
  MMOE_CHECK(!outcomes.empty()) << "a law needs an outcome";
  std::sort(outcomes.begin(), outcomes.end());
  double total = 0;
  for (const auto& [value, probability] : outcomes) {
    MMOE_CHECK(std::isfinite(value) && probability >= 0) << value << " with probability " << probability;
    if (values_.empty() || value > values_.back()) {
      values_.push_back(value);
      probabilities_.push_back(0);
    }
    probabilities_.back() += probability;
    total += probability;
  }
  MMOE_CHECK(total > 0) << "probabilities sum to " << total;
  tails_.resize(values_.size());
  double tail = 0;
  for (size_t i = values_.size(); i-- > 0;) {
    probabilities_[i] /= total;
    tails_[i] = tail;
    tail += probabilities_[i];
  }
}

double ValueLaw::mean() const {
  double sum = 0;
  for (size_t i = 0; i < values_.size(); ++i) sum += values_[i] * probabilities_[i];
  return sum;
}

double ValueLaw::std() const {
  const double center = mean();
  double sum = 0;
  for (size_t i = 0; i < values_.size(); ++i) sum += probabilities_[i] * (values_[i] - center) * (values_[i] - center);
  return std::sqrt(sum);
}

double ValueLaw::tail(double x) const {
  const auto above = std::upper_bound(values_.begin(), values_.end(), x);
  return above == values_.begin() ? 1 : tails_[static_cast<size_t>(above - values_.begin()) - 1];
}

double ValueLaw::cdf(double x) const { return 1 - tail(x); }

double ValueLaw::quantile(double q) const { return quantile_of_maximum(q, 1); }

double ValueLaw::quantile_of_maximum(double q, double n) const {
  MMOE_CHECK(q >= 0 && q <= 1 && n > 0) << "q = " << q << ", n = " << n;
  // P(max <= v) = (1 - tail(v))^n >= q; tails_ fall along the values.
  const double largest_tail = (q > 0 ? -std::expm1(std::log(q) / n) : 1) * (1 + kSlack) + 1e-300;
  const auto found = std::partition_point(tails_.begin(), tails_.end(), [&](double t) { return t > largest_tail; });
  return values_[std::min(static_cast<size_t>(found - tails_.begin()), values_.size() - 1)];
}

double ValueLaw::cdf_of_maximum(double x, double n) const {
  const double above = tail(x);
  return above >= 1 ? 0 : std::exp(n * std::log1p(-above));
}

ValueLaw ValueLaw::maximum(double n) const {
  MMOE_CHECK(n > 0) << n;
  if (n == 1) return *this;
  std::vector<std::pair<double, double>> outcomes;
  double below = 0, log_below = -INFINITY;
  for (size_t i = 0; i < values_.size(); ++i) {
    below += probabilities_[i];
    const double log_now = n * log_cdf(std::min(below, 1.0), tails_[i]);
    // exp(now) - exp(before) without cancellation.
    const double probability = log_now > -INFINITY ? -std::exp(log_now) * std::expm1(log_below - log_now) : 0;
    outcomes.emplace_back(values_[i], std::max(probability, 0.0));
    log_below = log_now;
  }
  return ValueLaw(std::move(outcomes));
}

ValueLaw ValueLaw::scaled(double factor, double offset) const {
  std::vector<std::pair<double, double>> outcomes;
  for (size_t i = 0; i < values_.size(); ++i) outcomes.emplace_back(factor * values_[i] + offset, probabilities_[i]);
  return ValueLaw(std::move(outcomes));
}

Summary ValueLaw::summary() const { return {mean(), std(), quantile(0.5), quantile(0.99), max()}; }

}  // namespace mmoe
