#pragma once
// A small job for the tests of the memory model and of what is built on it.

#include <nlohmann/json.hpp>
#include <string>

#include "sim/config/job.h"

namespace mmoe {

// `changes` (JSON text) is merged into a job of 3 MoE layers, fp32, on the CPU.
inline Job small_memory_job(const std::string& changes = "{}") {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 64, "num_layers": 3, "num_heads": 4, "vocab_size": 512, "num_experts": 8,
              "expert_hidden_size": 96},
    "hardware": {"device": "cpu"},
    "training": {"seq_len": 64, "micro_batch_size": 4, "global_batch_size": 8, "precision": "fp32"},
    "elastic": {"k_min": 1, "k_max": 4}})");
  json.merge_patch(nlohmann::json::parse(changes));
  return parse_job(json, "small.json", ".");
}

}  // namespace mmoe
