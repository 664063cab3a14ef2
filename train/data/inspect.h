#pragma once
// What a set of token files holds, read from the files themselves.

#include <cstdint>
#include <iosfwd>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "train/data/dataset_info.h"

namespace mmoe {

struct TokenSample {
  int32_t id = 0;
  std::string text;  // escape_text of what the token stands for
};

struct Inspection {
  std::string prefix;
  DatasetInfo info;
  std::array<std::vector<TokenSample>, 4> first_tokens;  // of each split, in the order of kSplits
};

// Reads every token. ConfigError where the files are damaged or disagree with PREFIX.json.
Inspection inspect_dataset(const std::string& prefix, int64_t num_first_tokens);

nlohmann::ordered_json to_json(const Inspection& inspection);
void print(const Inspection& inspection, std::ostream& out);

// The table of splits, the vocabulary and the entropy.
void print_dataset_info(const DatasetInfo& info, const std::string& prefix, std::ostream& out);

}  // namespace mmoe
