#include "sim/throughput/throughput.h"

#include <algorithm>

#include "sim/elastic/elastic_law.h"
#include "sim/formulas/model_flops.h"

namespace mmoe {
namespace {

// Probability of each k = 1 .. num_experts, by MoE layer.
std::vector<std::vector<double>> draw_probabilities(const Job& job) {
  const size_t layers = static_cast<size_t>(job.model.num_moe_layers());
  std::vector<std::vector<double>> probabilities(layers,
                                                 std::vector<double>(static_cast<size_t>(job.model.num_experts)));
  if (layers == 0) return probabilities;
  if (job.elastic.sampling == Sampling::kTopP) {
    for (auto& layer : probabilities) layer[static_cast<size_t>(job.elastic.k_max - 1)] = 1;
    return probabilities;
  }
  const std::vector<DiscreteLaw> marginals = ElasticLaw(job.elastic, static_cast<int>(layers)).marginals();
  for (size_t layer = 0; layer < layers; ++layer) {
    for (int k = job.elastic.k_min; k <= job.elastic.k_max; ++k) {
      probabilities[layer][static_cast<size_t>(k - 1)] = marginals[layer].probability(k);
    }
  }
  return probabilities;
}

// A piece of work and how often a step does it, in the mean over the draws.
struct WeightedCost {
  OperationCost cost;
  double times;
};

std::vector<WeightedCost> mean_step_costs(const Job& job, const std::vector<std::vector<double>>& probabilities) {
  std::vector<WeightedCost> result;
  const auto add = [&](const std::vector<OperationCost>& costs, double times) {
    if (times <= 0) return;
    for (const OperationCost& cost : costs) result.push_back({cost, times});
  };
  const double micro_batches = static_cast<double>(job.num_micro_batches());
  const int64_t moe_layers = job.model.num_moe_layers(), dense_layers = job.model.num_layers - moe_layers;
  add(layer_operations(job, -1, 0), micro_batches);
  if (dense_layers > 0) add(layer_operations(job, 0, 0), micro_batches * static_cast<double>(dense_layers));
  // MoE layers have equal shapes: what counts is how many of them draw each k.
  for (int64_t k = 1; moe_layers > 0 && k <= job.model.num_experts; ++k) {
    double layers = 0;
    for (const std::vector<double>& law : probabilities) layers += law[static_cast<size_t>(k - 1)];
    if (layers > 0) {
      add(layer_operations(job, static_cast<int>(dense_layers), static_cast<int>(k)), micro_batches * layers);
    }
  }
  add(update_operations(job), 1);
  return result;
}

Seconds mean_step(const std::vector<WeightedCost>& costs, const RooflineParameters& parameters) {
  Seconds sum;
  for (const WeightedCost& item : costs) sum += item.times * operation_seconds(item.cost, parameters);
  return parameters.step_factor * sum + Seconds{parameters.step_overhead};
}

std::map<std::string, Seconds> mean_breakdown(const std::vector<WeightedCost>& costs,
                                              const RooflineParameters& parameters) {
  std::map<std::string, Seconds> seconds;
  for (const WeightedCost& item : costs) {
    seconds[std::string(operation_name(item.cost.operation))] +=
        item.times * parameters.step_factor * operation_seconds(item.cost, parameters);
  }
  seconds["overhead"] = Seconds{parameters.step_overhead};
  return seconds;
}

}  // namespace

Summary step_seconds_law(const Job& job, const StepTimeModel& model) {
  const int64_t micro_batches = job.num_micro_batches();
  const int layers = static_cast<int>(job.model.num_moe_layers());
  const double fixed = model.fixed_seconds().value * static_cast<double>(micro_batches) + model.update_seconds().value;
  if (layers == 0 || job.elastic.sampling == Sampling::kTopP) {
    const std::vector<int> draw(static_cast<size_t>(layers), job.elastic.k_max);
    const double experts = (model.micro_batch_seconds(draw) - model.fixed_seconds()).value;
    const double seconds = fixed + experts * static_cast<double>(micro_batches);
    return {.mean = seconds, .std = 0, .p50 = seconds, .p99 = seconds, .max = seconds};
  }
  LayerCosts costs;
  for (const std::vector<double>& layer : model.experts_seconds()) {
    costs.emplace_back(layer.begin() + (job.elastic.k_min - 1), layer.begin() + job.elastic.k_max);
  }
  Summary law = ElasticLaw(job.elastic, layers).additive_law_of_step(costs, micro_batches).summary();
  for (double* value : {&law.mean, &law.p50, &law.p99, &law.max}) *value += fixed;
  return law;
}

Throughput predict_throughput(const Job& job, const Calibration& calibration) {
  const StepTimeModel model(job, calibration);
  const std::vector<std::vector<double>> probabilities = draw_probabilities(job);
  const std::vector<WeightedCost> costs = mean_step_costs(job, probabilities);
  const double devices = static_cast<double>(job.hardware.num_devices);

  Throughput result;
  result.step = mean_step(costs, model.parameters());
  result.step_interval = prediction_interval(
      calibration,
      [&](const Calibration& moved) {
        return mean_step(costs, roofline_parameters(moved, job.hardware, job.training.precision)).value;
      },
      calibration.step_spread);
  result.step_law = step_seconds_law(job, model);
  result.breakdown = mean_breakdown(costs, model.parameters());

  double sum_k = 0;
  for (const std::vector<double>& layer : probabilities) {
    for (size_t i = 0; i < layer.size(); ++i) sum_k += layer[i] * static_cast<double>(i + 1);
  }
  const Flops flops = model_step_flops(job.model, static_cast<double>(job.training.seq_len),
                                       static_cast<double>(job.training.global_batch_size), sum_k);
  result.device_peak = device_peak(calibration, job.hardware.spec, job.training.precision);
  result.model_flops_utilization = model_flops_utilization(flops, result.step, result.device_peak, devices);
  result.model_flops_per_device = flops / devices / result.step;
  result.tokens_per_second_per_device =
      static_cast<double>(job.training.global_batch_size * job.training.seq_len) / result.step.value / devices;
  return result;
}

}  // namespace mmoe
