#pragma once
// Seconds of one optimiser step for given draws of k, and their law under the job's elastic law.

#include <map>
#include <string>
#include <vector>

#include "sim/calibration/calibration.h"
#include "sim/config/job.h"
#include "sim/throughput/operations.h"
#include "sim/throughput/roofline.h"
#include "sim/units/units.h"

namespace mmoe {

// Step time is additive: sum over micro-batches of (fixed + sum over MoE layers of experts[layer][k_l]) + update. Built
// once for a job; every question after that is a table look-up. All seconds include the calibration's step factor.
class StepTimeModel {
 public:
  StepTimeModel(const Job& job, const Calibration& calibration);

  // Router and routed experts of one MoE layer in one micro-batch, forward, recompute and backward:
  // [MoE layer][k - 1] for k = 1 .. num_experts.
  const std::vector<std::vector<double>>& experts_seconds() const { return experts_; }
  // The same of one forward pass alone: the cost in seconds that `mmoe allocate` bounds.
  const std::vector<std::vector<double>>& experts_forward_seconds() const { return experts_forward_; }

  // Everything else of one micro-batch, of its forward pass alone, and of what a step does once (with its overhead).
  Seconds fixed_seconds() const { return fixed_; }
  Seconds fixed_forward_seconds() const { return fixed_forward_; }
  Seconds update_seconds() const { return update_; }

  Seconds micro_batch_seconds(const std::vector<int>& k_per_layer) const;
  Seconds forward_seconds(const std::vector<int>& k_per_layer) const;
  Seconds step_seconds(const std::vector<std::vector<int>>& k_per_layer) const;  // [micro-batch][MoE layer]

  // step_seconds by operation name and "overhead"; adds up to it.
  std::map<std::string, Seconds> breakdown(const std::vector<std::vector<int>>& k_per_layer) const;

  const RooflineParameters& parameters() const { return parameters_; }

 private:
  Job job_;
  RooflineParameters parameters_;
  std::vector<std::vector<double>> experts_, experts_forward_;
  Seconds fixed_, fixed_forward_, update_;
};

// Model FLOPs (no recomputation, causal attention as the mask leaves it) over what the devices could do at their peak.
double model_flops_utilization(Flops model_flops, Seconds step, FlopsPerSecond device_peak, double num_devices);

}  // namespace mmoe
