#pragma once
// A small elastic job on one device that tests of budgets change keys of.

#include <nlohmann/json.hpp>

#include "sim/config/job.h"

namespace mmoe {

inline Job small_job(const Overrides& overrides = {}) {
  const nlohmann::json json = {{"model",
                                {{"hidden_size", 256},
                                 {"num_layers", 6},
                                 {"num_heads", 4},
                                 {"vocab_size", 2048},
                                 {"num_experts", 16},
                                 {"expert_hidden_size", 256}}},
                               {"hardware", {{"device", "a100-sxm-40gb"}}},
                               {"training", {{"seq_len", 512}, {"micro_batch_size", 8}, {"global_batch_size", 32}}},
                               {"elastic", {{"k_min", 1}, {"k_max", 6}}}};
  return parse_job(json, "job.json", ".", overrides);
}

}  // namespace mmoe
