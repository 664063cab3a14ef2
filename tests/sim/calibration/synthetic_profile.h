#pragma once
// A profile "measured" on a machine that follows a known calibration, with noise: what a fit must find again.

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "sim/calibration/fit.h"
#include "sim/throughput/roofline.h"
#include "tests/sim/throughput/example_job.h"

namespace mmoe {

// Shapes from cache-sized to memory-sized, so that each parameter shows somewhere.
inline std::vector<Job> synthetic_jobs() {
  std::vector<Job> jobs;
  const auto add = [&](int64_t hidden, int64_t layers, int64_t experts, int64_t width, int64_t vocab, int64_t seq_len,
                       int64_t micro_batch) {
    ExampleJob sizes;
    sizes.hidden_size = hidden;
    sizes.num_layers = layers;
    sizes.num_experts = experts;
    sizes.expert_hidden_size = width;
    sizes.vocab_size = vocab;
    sizes.seq_len = seq_len;
    sizes.micro_batch_size = micro_batch;
    sizes.global_batch_size = 2 * micro_batch;
    jobs.push_back(example_job(sizes));
  };
  add(128, 4, 16, 64, 2048, 128, 8);
  add(256, 4, 16, 128, 2048, 256, 8);
  add(512, 2, 8, 256, 4096, 256, 2);
  add(64, 6, 32, 64, 1024, 64, 4);
  add(768, 2, 16, 256, 8192, 512, 1);
  add(192, 3, 24, 96, 2048, 128, 16);
  return jobs;
}

// Times of every operation, phase, layer and k, and of some steps, under `truth`; log-normal noise of standard
// deviation `noise`, from a fixed seed.
inline ProfiledJobs synthetic_profile(const Calibration& truth, std::vector<Job> jobs, double noise) {
  ProfiledJobs result;
  result.where = "profile.json";
  result.jobs = std::move(jobs);
  Profile& profile = result.profile;
  profile.machine.device = "cpu";
  profile.machine.processor = "synthetic";
  profile.machine.threads = 2;
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  const auto timing = [&](double seconds) {
    const double measured = seconds * std::exp(noise * normal(random));
    return Timing{Seconds{measured}, Seconds{measured * (1 - noise)}, Seconds{measured * (1 + noise)}, 5};
  };
  for (size_t index = 0; index < result.jobs.size(); ++index) {
    const Job& job = result.jobs[index];
    profile.jobs.push_back(nlohmann::json::object());
    const RooflineParameters p = roofline_parameters(truth, job.hardware, job.training.precision);
    const auto record = [&](const std::vector<OperationCost>& costs, int layer, bool only_k) {
      std::map<std::pair<Operation, Phase>, double> seconds;
      for (const OperationCost& cost : costs) {
        seconds[{cost.operation, cost.phase}] += operation_seconds(cost, p).value;
      }
      for (const auto& [key, value] : seconds) {
        const bool with_k = key.first == Operation::kRouter || key.first == Operation::kExperts;
        if (only_k && !with_k) continue;
        OperationRecord operation;
        operation.job = static_cast<int64_t>(index);
        operation.operation = operation_name(key.first);
        operation.phase = phase_name(key.second);
        operation.layer = layer;
        operation.k = with_k ? costs.back().k : 0;
        operation.seconds = timing(value);
        profile.operations.push_back(operation);
      }
    };
    record(layer_operations(job, -1, 0), -1, false);
    record(update_operations(job), -1, false);
    for (int layer = 0; layer < job.model.num_layers; ++layer) {
      for (int k = 1; k <= job.elastic.k_max; ++k) record(layer_operations(job, layer, k), layer, k > 1);
    }
    for (int i = 0; i < 6; ++i) {
      StepRecord step;
      step.job = static_cast<int64_t>(index);
      double seconds = 0;
      for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
        std::vector<int> draw;
        for (int layer = 0; layer < job.model.num_layers; ++layer) draw.push_back(1 + (i + layer + micro_batch) % 6);
        for (const OperationCost& cost : step_operations(job, draw)) seconds += operation_seconds(cost, p).value;
        step.k_per_layer.push_back(draw);
      }
      for (const OperationCost& cost : update_operations(job)) seconds += operation_seconds(cost, p).value;
      step.seconds = timing(p.step_factor * seconds + p.step_overhead);
      step.predicted_peak_allocated = Bytes{1e8 + 1e6 * i};
      step.peak_allocated = Bytes{1e8 + 1e6 * i + truth.framework_overhead().value};
      profile.steps.push_back(step);
    }
  }
  return result;
}

}  // namespace mmoe
