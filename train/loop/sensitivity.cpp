#include "train/loop/sensitivity.h"

#include <cmath>

#include "sim/units/errors.h"

namespace mmoe {

double MeasuredLosses::at(const std::vector<int>& k_per_layer) {
  const auto known = losses_.find(k_per_layer);
  if (known != losses_.end()) return known->second;
  const double loss = measure_(k_per_layer);
  if (!std::isfinite(loss)) {
    throw ConfigError("the model's loss is not finite; the checkpoint holds a run that diverged, take an earlier one");
  }
  return losses_[k_per_layer] = loss;
}

double Sensitivities::predicted_loss(const std::vector<int>& k_per_layer) const {
  MMOE_CHECK(k_per_layer.size() == increase.size()) << k_per_layer.size() << " layers";
  double loss = base_loss;
  for (size_t l = 0; l < increase.size(); ++l) loss += increase[l].at(k_per_layer[l] - k_min);
  return loss;
}

Sensitivities measure_sensitivities(MeasuredLosses& losses, int num_layers, int base_k, int k_min, int k_max) {
  MMOE_CHECK(k_min <= base_k && base_k <= k_max) << "base k = " << base_k;
  Sensitivities result;
  result.k_min = k_min;
  result.base_k = base_k;
  std::vector<int> k_per_layer(num_layers, base_k);
  result.base_loss = losses.at(k_per_layer);
  for (int& k : k_per_layer) {
    std::vector<double>& layer = result.increase.emplace_back();
    for (k = k_min; k <= k_max; ++k) layer.push_back(losses.at(k_per_layer) - result.base_loss);
    k = base_k;
  }
  return result;
}

}  // namespace mmoe
