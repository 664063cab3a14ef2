#pragma once
// A small elastic job on a CPU of stated rates, for tests.

#include "sim/config/job.h"

namespace mmoe {

struct ExampleJob {
  int64_t hidden_size = 256;
  int64_t num_layers = 4;
  int64_t num_experts = 16;
  int64_t expert_hidden_size = 128;
  int64_t vocab_size = 2048;
  int64_t seq_len = 256;
  int64_t micro_batch_size = 4;
  int64_t global_batch_size = 8;
  int k_max = 6;
  Precision precision = Precision::kFp32;
};

inline Job example_job(const ExampleJob& sizes = {}) {
  Job job;
  ModelConfig& model = job.model;
  model.hidden_size = sizes.hidden_size;
  model.num_layers = sizes.num_layers;
  model.head_dim = 64;
  model.num_heads = model.num_kv_heads = sizes.hidden_size / model.head_dim;
  model.vocab_size = sizes.vocab_size;
  model.num_experts = sizes.num_experts;
  model.expert_hidden_size = sizes.expert_hidden_size;
  model.top_k = sizes.k_max;
  DeviceSpec& device = job.hardware.spec;
  device.name = "cpu";
  device.is_cpu = true;
  device.memory = gib(16);
  device.memory_bandwidth = gb_per_s(40);
  device.peak_fp32 = FlopsPerSecond{2e11};
  device.peak_fp64 = FlopsPerSecond{1e11};
  device.peak_bf16 = FlopsPerSecond{8e11};
  job.training.seq_len = sizes.seq_len;
  job.training.micro_batch_size = sizes.micro_batch_size;
  job.training.global_batch_size = sizes.global_batch_size;
  job.training.precision = sizes.precision;
  job.elastic.k_min = 1;
  job.elastic.k_max = sizes.k_max;
  job.elastic.k_reference = sizes.k_max;
  return job;
}

}  // namespace mmoe
