#pragma once
// From token files of other software to a Dataset on disk.

#include <cstdint>
#include <string>
#include <vector>

#include "train/data/dataset_info.h"
#include "train/data/foreign_tokens.h"

namespace mmoe {

struct ImportTokensOptions {
  std::vector<std::string> token_files;
  ForeignFormat format = ForeignFormat::kMegatron;
  int64_t vocab_size = 0;
  int64_t document_end = -1;
  std::string
      tokenizer_model;  // the SentencePiece model that made them; empty: unknown, so no bytes of text are counted
  std::string prefix;
  SplitFractions split_fractions = kDefaultSplitFractions;
  uint64_t seed = 0;
};

// Writes the files that Dataset reads, as build_dataset does, and returns what PREFIX.json says.
DatasetInfo import_tokens(const ImportTokensOptions& options);

}  // namespace mmoe
