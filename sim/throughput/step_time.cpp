#include "sim/throughput/step_time.h"

#include "sim/units/errors.h"

namespace mmoe {
namespace {

bool depends_on_k(const OperationCost& cost) {
  return cost.operation == Operation::kRouter || cost.operation == Operation::kExperts;
}

// Seconds of the pieces of a list that do (or do not) depend on k, all phases or the forward pass alone.
struct Split {
  double experts = 0, experts_forward = 0, fixed = 0, fixed_forward = 0;
};

Split split_seconds(const std::vector<OperationCost>& costs, const RooflineParameters& parameters) {
  Split split;
  for (const OperationCost& cost : costs) {
    const double seconds = parameters.step_factor * operation_seconds(cost, parameters).value;
    const bool forward = cost.phase == Phase::kForward;
    (depends_on_k(cost) ? split.experts : split.fixed) += seconds;
    if (forward) (depends_on_k(cost) ? split.experts_forward : split.fixed_forward) += seconds;
  }
  return split;
}

}  // namespace

StepTimeModel::StepTimeModel(const Job& job, const Calibration& calibration)
    : job_(job), parameters_(roofline_parameters(calibration, job.hardware, job.training.precision)) {
  const auto add_fixed = [&](const Split& split, double times) {
    fixed_ += Seconds{times * split.fixed};
    fixed_forward_ += Seconds{times * split.fixed_forward};
  };
  add_fixed(split_seconds(layer_operations(job, -1, 0), parameters_), 1);
  const ModelConfig& model = job.model;
  const int64_t moe_layers = model.num_moe_layers(), dense_layers = model.num_layers - moe_layers;
  if (dense_layers > 0) {
    add_fixed(split_seconds(layer_operations(job, 0, 0), parameters_), static_cast<double>(dense_layers));
  }
  if (moe_layers > 0) {
    // All MoE layers have the same shape.
    std::vector<double> experts, experts_forward;
    for (int k = 1; k <= model.num_experts; ++k) {
      const Split split = split_seconds(layer_operations(job, static_cast<int>(dense_layers), k), parameters_);
      experts.push_back(split.experts);
      experts_forward.push_back(split.experts_forward);
      if (k == 1) add_fixed(split, static_cast<double>(moe_layers));
    }
    experts_.assign(static_cast<size_t>(moe_layers), experts);
    experts_forward_.assign(static_cast<size_t>(moe_layers), experts_forward);
  }
  for (const OperationCost& cost : update_operations(job)) {
    update_ += parameters_.step_factor * operation_seconds(cost, parameters_);
  }
  update_ += Seconds{parameters_.step_overhead};
}

namespace {

double sum_over_layers(const std::vector<std::vector<double>>& table, const std::vector<int>& k_per_layer) {
  MMOE_CHECK(k_per_layer.size() == table.size()) << "one k for each MoE layer, got " << k_per_layer.size();
  double sum = 0;
  for (size_t layer = 0; layer < table.size(); ++layer) {
    const int k = k_per_layer[layer];
    MMOE_CHECK(k >= 1 && static_cast<size_t>(k) <= table[layer].size()) << "k = " << k;
    sum += table[layer][static_cast<size_t>(k - 1)];
  }
  return sum;
}

}  // namespace

Seconds StepTimeModel::micro_batch_seconds(const std::vector<int>& k_per_layer) const {
  return fixed_ + Seconds{sum_over_layers(experts_, k_per_layer)};
}

Seconds StepTimeModel::forward_seconds(const std::vector<int>& k_per_layer) const {
  return fixed_forward_ + Seconds{sum_over_layers(experts_forward_, k_per_layer)};
}

Seconds StepTimeModel::step_seconds(const std::vector<std::vector<int>>& k_per_layer) const {
  Seconds total = update_;
  for (const std::vector<int>& micro_batch : k_per_layer) total += micro_batch_seconds(micro_batch);
  return total;
}

std::map<std::string, Seconds> StepTimeModel::breakdown(const std::vector<std::vector<int>>& k_per_layer) const {
  std::map<std::string, Seconds> seconds;
  const auto add = [&](const std::vector<OperationCost>& costs) {
    for (const OperationCost& cost : costs) {
      seconds[std::string(operation_name(cost.operation))] +=
          parameters_.step_factor * operation_seconds(cost, parameters_);
    }
  };
  for (const std::vector<int>& micro_batch : k_per_layer) add(step_operations(job_, micro_batch));
  add(update_operations(job_));
  seconds["overhead"] = Seconds{parameters_.step_overhead};
  return seconds;
}

double model_flops_utilization(Flops model_flops, Seconds step, FlopsPerSecond device_peak, double num_devices) {
  return model_flops / step / (device_peak * num_devices);
}

}  // namespace mmoe
