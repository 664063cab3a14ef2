#pragma once
// A job as a launch script of Megatron-Core's pretrain_gpt.py (names of arguments as in release 0.16).

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/config/job.h"

namespace mmoe {

// A setting of the job that Megatron-Core has no word for.
struct UnexpressedSetting {
  std::string key, value, instead;  // "elastic.budget", "at_most 49", what the script does in its place
};

struct MegatronScript {
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::pair<std::string, std::string>> arguments;  // "--num-layers", "32"; a switch has an empty value
  std::vector<UnexpressedSetting> unexpressed;
  int64_t num_nodes = 1, devices_per_node = 1;
  int64_t null_vocabulary = 0;  // ids of the stand-in tokenizer, which adds one for the end of a document

  // The script for bash. The data and the tokenizer are given to it by environment variables.
  std::string text() const;
};

// A job that draws its k can only be written as a top-`fixed_k` specialist. Throws ConfigError where k varies and
// `fixed_k` is missing or out of range, and for precisions that Megatron does not train in.
MegatronScript megatron_script(const Job& job, std::optional<int> fixed_k);

}  // namespace mmoe
