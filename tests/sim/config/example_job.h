#pragma once
// A small valid job that tests change one key of.

#include <nlohmann/json.hpp>

namespace mmoe {

inline nlohmann::json example_job() {
  return nlohmann::json::parse(R"({
    "model": {"hidden_size": 128, "num_layers": 8, "num_heads": 4, "num_kv_heads": 2, "vocab_size": 2048,
              "num_experts": 16, "expert_hidden_size": 64},
    "hardware": {"device": "h100-sxm-80gb", "num_devices": 8},
    "parallelism": {"tensor": 1, "pipeline": 1},
    "training": {"seq_len": 256, "micro_batch_size": 2, "global_batch_size": 32, "tokens": 1e6},
    "elastic": {"k_min": 1, "k_max": 6}
  })");
}

// The example with one value set: change("parallelism.tensor", 3).
inline nlohmann::json changed(nlohmann::json job, const std::string& dotted, const nlohmann::json& value) {
  std::string pointer = "/" + dotted;
  for (char& c : pointer) c = c == '.' ? '/' : c;
  job[nlohmann::json::json_pointer(pointer)] = value;
  return job;
}

}  // namespace mmoe
