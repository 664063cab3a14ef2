#pragma once
// A set of token files as `mmoe data build` writes it: PREFIX.json, PREFIX.model (SentencePiece only), and
// PREFIX.<split>.bin and .idx for the splits train, valid, search, test.

#include <array>
#include <memory>
#include <string>

#include "train/data/dataset_info.h"
#include "train/data/token_file.h"
#include "train/data/tokenizer.h"

namespace mmoe {

class Dataset {
 public:
  // Opens and checks all files; maps, does not read, the tokens. ConfigError naming the file that is missing, damaged
  // or from another build.
  explicit Dataset(const std::string& prefix);

  const DatasetInfo& info() const { return info_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  // Empty (no documents) when the split was built with fraction 0.
  const TokenFile& tokens(Split split) const { return *tokens_[static_cast<size_t>(split)]; }

 private:
  DatasetInfo info_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::array<std::unique_ptr<TokenFile>, 4> tokens_;
};

// PREFIX.<split>, to which TokenFile adds .bin and .idx.
std::string split_path(const std::string& prefix, Split split);

}  // namespace mmoe
