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

Seconds mean_step(const StepTimeModel& model, const std::vector<std::vector<double>>& probabilities,
                  double micro_batches) {
  Seconds mean = model.fixed_seconds();
  for (size_t layer = 0; layer < probabilities.size(); ++layer) {
    for (size_t i = 0; i < probabilities[layer].size(); ++i) {
      mean += Seconds{probabilities[layer][i] * model.experts_seconds()[layer][i]};
    }
  }
  return mean * micro_batches + model.update_seconds();
}

// The mean step by operation: each MoE layer's pieces weighted by the probability of their k.
std::map<std::string, Seconds> mean_breakdown(const Job& job, const StepTimeModel& model,
                                              const std::vector<std::vector<double>>& probabilities,
                                              double micro_batches) {
  std::map<std::string, Seconds> seconds;
  const RooflineParameters& parameters = model.parameters();
  const auto add = [&](const std::vector<OperationCost>& costs, double times) {
    for (const OperationCost& cost : costs) {
      seconds[std::string(operation_name(cost.operation))] +=
          times * parameters.step_factor * operation_seconds(cost, parameters);
    }
  };
  add(layer_operations(job, -1, 0), micro_batches);
  for (int layer = 0; layer < job.model.num_layers; ++layer) {
    if (!job.model.is_moe_layer(layer)) {
      add(layer_operations(job, layer, 0), micro_batches);
      continue;
    }
    const std::vector<double>& law = probabilities[static_cast<size_t>(layer - job.model.num_dense_layers)];
    for (size_t i = 0; i < law.size(); ++i) {
      if (law[i] > 0) add(layer_operations(job, layer, static_cast<int>(i) + 1), micro_batches * law[i]);
    }
  }
  add(update_operations(job), 1);
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
  const double micro_batches = static_cast<double>(job.num_micro_batches());
  const double devices = static_cast<double>(job.hardware.num_devices);

  Throughput result;
  result.step = mean_step(model, probabilities, micro_batches);
  result.step_interval = prediction_interval(
      calibration,
      [&](const Calibration& moved) {
        return mean_step(StepTimeModel(job, moved), probabilities, micro_batches).value;
      },
      calibration.step_spread);
  result.step_law = step_seconds_law(job, model);
  result.breakdown = mean_breakdown(job, model, probabilities, micro_batches);

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
