#pragma once
// A small job on two nodes of H100s that tests change keys of.

#include <utility>
#include <vector>

#include "sim/config/job.h"
#include "sim/framework/framework.h"

namespace mmoe {

inline nlohmann::json example_cluster_json() {
  return nlohmann::json::parse(R"({
    "model": {"hidden_size": 1024, "num_layers": 8, "num_heads": 16, "num_kv_heads": 8, "vocab_size": 32768,
              "num_experts": 16, "expert_hidden_size": 512, "num_dense_layers": 2, "dense_hidden_size": 4096},
    "hardware": {"cluster": "dgx-h100", "num_devices": 16},
    "parallelism": {"tensor": 2, "pipeline": 2, "expert": 4, "sequence": true, "zero_stage": 1},
    "training": {"framework": "megatron_core", "seq_len": 2048, "micro_batch_size": 1, "global_batch_size": 64},
    "elastic": {"k_min": 2, "k_max": 2, "sampling": "fixed"}
  })");
}

// The example with some keys set: {{"parallelism.tensor", "4"}}.
inline Job example_cluster_job(const Overrides& overrides = {}) {
  return parse_job(example_cluster_json(), "job.json", "/", overrides);
}

inline Framework framework_of(const Job& job) {
  return load_framework(job.training.framework, job.hardware.spec, "training.framework");
}

}  // namespace mmoe
