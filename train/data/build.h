#pragma once
// From text files to a Dataset on disk.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/data/dataset_info.h"
#include "train/data/splits.h"

namespace mmoe {

struct BuildOptions {
  std::vector<std::string> text_files;
  std::string tokenizer = "bytes";  // or "sentencepiece"
  int64_t vocab_size = 0;           // 0: the tokenizer's own (bytes, or a given model)
  std::string tokenizer_model;      // encode with this SentencePiece model instead of training one
  std::string prefix;
  SplitFractions split_fractions = kDefaultSplitFractions;
  std::string separator = "\n\n";  // raw bytes
  std::string json_key = "text";   // of JSON Lines (.jsonl) and Parquet files: where a document's text lies
  uint64_t seed = 0;
  int64_t sample_bytes = 16 << 20;  // SentencePiece trains on at most this much of the train split
  int num_threads = 0;              // 0: one a core
  // Called now and then with what is going on and the fraction of it that is done.
  std::function<void(const std::string& doing, double fraction)> progress;
};

// Writes the files that Dataset reads and returns what PREFIX.json says. The result does not depend on num_threads. All
// files are written and synced before the first appears under its name, PREFIX.json last: a failure leaves an earlier
// build whole. ConfigError for bad options, unreadable or empty text, too few documents; std::system_error when the
// disk is full.
DatasetInfo build_dataset(const BuildOptions& options);

}  // namespace mmoe
