#include "sim/validation/error_spread.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <map>

#include "sim/plan/fit_probability.h"

namespace mmoe {
namespace {

constexpr double kLevel = 0.9;
constexpr double kLeastForOrder = 19;  // ceil(0.9 (n + 1)) < n from here on

double sum_of_squares(const std::vector<GroupedError>& errors) {
  double squares = 0;
  for (const GroupedError& error : errors) squares += error.log_error * error.log_error;
  return squares;
}

}  // namespace

std::string model_group(const ModelConfig& model) {
  return std::to_string(model.hidden_size) + "x" + std::to_string(model.num_layers) + "x" +
         std::to_string(model.num_experts);
}

double effective_count(const std::vector<GroupedError>& errors) {
  struct Group {
    double count = 0, sum = 0, squares = 0;
  };
  std::map<std::string, Group> groups;
  for (const GroupedError& error : errors) {
    Group& group = groups[error.group];
    ++group.count;
    group.sum += error.log_error;
    group.squares += error.log_error * error.log_error;
  }
  const auto count = static_cast<double>(errors.size());
  double pairs = 0, products = 0, squared_sizes = 0;
  for (const auto& [name, group] : groups) {
    pairs += group.count * (group.count - 1);
    products += group.sum * group.sum - group.squares;
    squared_sizes += group.count * group.count;
  }
  const double mean_square = sum_of_squares(errors) / count;
  const double correlation = pairs > 0 && mean_square > 0 ? std::clamp(products / pairs / mean_square, 0.0, 1.0) : 0.0;
  return std::max(static_cast<double>(groups.size()), count / (1 + (squared_sizes / count - 1) * correlation));
}

double predictive_spread(const std::vector<GroupedError>& errors) {
  const double independent = effective_count(errors);
  const auto count = static_cast<double>(errors.size());
  if (independent < kLeastForOrder) {
    const double student = boost::math::quantile(boost::math::students_t(independent), (1 + kLevel) / 2);
    return std::sqrt(sum_of_squares(errors) / count) * student / kNormal95;
  }
  std::vector<double> sizes;
  for (const GroupedError& error : errors) sizes.push_back(std::abs(error.log_error));
  std::sort(sizes.begin(), sizes.end());
  const double rank = std::min(count, std::ceil(kLevel * (1 + 1 / independent) * count));
  return sizes[static_cast<std::size_t>(rank) - 1] / kNormal95;
}

}  // namespace mmoe
