#pragma once
// Our trainer's arithmetic on one rank of several: the operations that it runs (sim/throughput/operations.h) at the
// rank's own sizes, timed by the calibration of its device.

#include <functional>

#include "sim/calibration/calibration.h"
#include "sim/cluster/layer_seconds.h"
#include "sim/config/job.h"
#include "sim/throughput/operations.h"
#include "sim/throughput/roofline.h"

namespace mmoe {

// Of one rank. Ranks on a CPU share its arithmetic, its bandwidth and its caches, which were measured by one process.
RooflineParameters rank_parameters(const Calibration& calibration, const HardwareConfig& hardware, Precision precision);

// Seconds without transfers; recomputed operations count to the backward pass. `weight_gradients` and `host` are 0.
class TrainerOperations {
 public:
  TrainerOperations(const Job& job, const RooflineParameters& parameters);

  LayerSeconds dense_layer() const;
  // `k` between two whole numbers: in proportion. `rows_factor`: rows of this rank over those of balanced routing.
  LayerSeconds moe_layer(double k, double rows_factor) const;
  LayerSeconds embedding() const;
  LayerSeconds head() const;  // final norm, logits, loss
  // Norm of the gradients and optimizer of a rank that updates so many weights.
  double update(double owned_weights) const;

 private:
  using Counts = std::function<bool(Operation)>;
  // Adds the operations of the job's layer `index`, or of none (-1), that count.
  void add(const Job& job, int index, int k, const Counts& counts, LayerSeconds& sum) const;
  LayerSeconds layer(int index, int k, double rows_factor) const;
  double seconds(const OperationCost& cost) const;

  RooflineParameters parameters_;
  // Jobs of one device whose operations have the sizes that they have on this rank.
  Job between_blocks_, in_blocks_, in_attention_, in_experts_;
  double expert_tokens_;  // of in_experts_, balanced routing
};

}  // namespace mmoe
