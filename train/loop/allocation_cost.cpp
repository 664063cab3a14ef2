#include "train/loop/allocation_cost.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sim/formulas/model_flops.h"
#include "sim/units/errors.h"

namespace mmoe {

double AllocationCost::total(const std::vector<int>& k_per_layer) const {
  MMOE_CHECK(k_per_layer.size() == experts.size()) << k_per_layer.size() << " layers";
  double sum = fixed;
  for (size_t l = 0; l < experts.size(); ++l) sum += experts[l].at(k_per_layer[l] - k_min);
  return sum;
}

double AllocationCost::least() const {
  double sum = fixed;
  for (const auto& layer : experts) sum += *std::min_element(layer.begin(), layer.end());
  return sum;
}

AllocationCost flops_cost(const ModelConfig& model, double seq_len, int k_min, int k_max) {
  const ForwardFlops flops = forward_flops(model, seq_len, 1);
  AllocationCost cost{"flops", "model FLOPs of a forward pass per token", k_min, (flops.fixed / seq_len).value, {}};
  std::vector<double> layer;
  for (int k = k_min; k <= k_max; ++k) layer.push_back((flops.per_k / seq_len).value * k);
  cost.experts.assign(model.num_moe_layers(), layer);
  return cost;
}

AllocationCost seconds_cost(const StepTimeModel& model, int k_min, int k_max) {
  AllocationCost cost{"seconds",
                      "predicted seconds of a forward pass of one micro-batch",
                      k_min,
                      model.fixed_forward_seconds().value,
                      {}};
  for (const std::vector<double>& layer : model.experts_forward_seconds()) {
    MMOE_CHECK(static_cast<int>(layer.size()) >= k_max) << "k_max = " << k_max;
    cost.experts.emplace_back(layer.begin() + k_min - 1, layer.begin() + k_max);
  }
  return cost;
}

std::vector<int> uniform_mix(int num_layers, int sum_k) {
  const int low = sum_k / num_layers, more = sum_k % num_layers;
  std::vector<int> k(num_layers);
  for (int l = 0; l < num_layers; ++l) k[l] = low + ((l + 1) * more / num_layers - l * more / num_layers);
  return k;
}

std::vector<int> uniform_mix_of_cost(const AllocationCost& costs, double cost) {
  const int layers = costs.num_layers();
  std::vector<int> best;
  double best_distance = 0;
  for (int sum = layers * costs.k_max(); sum >= layers * costs.k_min; --sum) {
    std::vector<int> mix = uniform_mix(layers, sum);
    const double distance = std::abs(costs.total(mix) - cost);
    if (best.empty() || distance < best_distance - 1e-12 * std::abs(cost)) {
      best = std::move(mix);
      best_distance = distance;
    }
  }
  return best;
}

std::vector<int> largest_uniform_mix(const AllocationCost& costs, double budget) {
  const int layers = costs.num_layers();
  for (int sum = layers * costs.k_max(); sum > layers * costs.k_min; --sum) {
    std::vector<int> mix = uniform_mix(layers, sum);
    if (costs.total(mix) <= budget * (1 + 1e-9)) return mix;
  }
  return std::vector<int>(layers, costs.k_min);
}

double mean_k(const std::vector<int>& k_per_layer) {
  return std::accumulate(k_per_layer.begin(), k_per_layer.end(), 0.0) / static_cast<double>(k_per_layer.size());
}

}  // namespace mmoe
