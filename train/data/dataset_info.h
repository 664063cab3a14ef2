#pragma once
// PREFIX.json: what a set of token files was built from, with what tokenizer, and its counts.

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "train/data/splits.h"

namespace mmoe {

struct SplitInfo {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t bytes = 0;               // of text
  int64_t documents_in_train = 0;  // of `documents`, those whose text stands in the train split too: no honest test

  bool operator==(const SplitInfo&) const = default;
};

struct DatasetInfo {
  std::string tokenizer;  // Tokenizer::kind()
  int64_t vocab_size = 0;
  std::string model;       // file name of the SentencePiece model, beside PREFIX.json; empty for bytes
  std::string model_hash;  // content_hash_text of that file
  std::string separator;   // as escape_text writes it
  uint64_t seed = 0;
  SplitFractions split_fractions = {};
  std::array<SplitInfo, 4> splits;                      // in the order of kSplits
  std::optional<double> unigram_entropy_bits_per_byte;  // of the train split
  std::vector<std::string> text_files;                  // as named on the command line
  int64_t text_bytes = 0;
  std::string text_hash;  // content_hash_text of all text, file after file

  const SplitInfo& split(Split which) const { return splits[static_cast<size_t>(which)]; }
  SplitInfo& split(Split which) { return splits[static_cast<size_t>(which)]; }
};

nlohmann::ordered_json to_json(const DatasetInfo& info);

// Reads PREFIX.json. ConfigError naming the file and the key when it is missing or not as to_json() writes it.
DatasetInfo load_dataset_info(const std::string& prefix);

}  // namespace mmoe
