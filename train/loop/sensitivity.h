#pragma once
// How much the loss rises when one layer alone has another k, measured.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sim/allocation/knapsack.h"

namespace mmoe {

// Measured losses of allocations (mean nats per token); each allocation is measured once.
class MeasuredLosses {
 public:
  using Measure = std::function<double(const std::vector<int>& k_per_layer)>;
  explicit MeasuredLosses(Measure measure) : measure_(std::move(measure)) {}

  double at(const std::vector<int>& k_per_layer);
  bool knows(const std::vector<int>& k_per_layer) const { return losses_.contains(k_per_layer); }
  int count() const { return static_cast<int>(losses_.size()); }
  const std::map<std::vector<int>, double>& all() const { return losses_; }

 private:
  Measure measure_;
  std::map<std::vector<int>, double> losses_;
};

// The loss of the base, one k for all layers, and its change when layer l alone goes to k. Measured around the k that
// the budget points to, not around k_max: layers act together (Alloc-MoE, arXiv:2604.08133).
struct Sensitivities {
  int k_min = 1;
  int base_k = 1;
  double base_loss = 0;                       // nats per token
  std::vector<std::vector<double>> increase;  // [MoE layer][k - k_min], nats per token; 0 at base_k

  // The sum of single changes: exact where layers do not interact.
  double predicted_loss(const std::vector<int>& k_per_layer) const;
};

// Takes 1 + num_layers (k_max - k_min) evaluations, fewer where they are known.
Sensitivities measure_sensitivities(MeasuredLosses& losses, int num_layers, int base_k, int k_min, int k_max);

}  // namespace mmoe
