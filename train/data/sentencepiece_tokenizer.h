#pragma once
// SentencePiece (Kudo and Richardson 2018, arXiv:1808.06226) made exact: identity normalisation, no dummy prefix, all
// white space kept, and every byte of text that SentencePiece itself cannot represent written as a byte piece.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "train/data/tokenizer.h"

namespace mmoe {

// A loaded model. `name` is its file, for error lines. ConfigError when `model` is none or lacks the 256 byte pieces.
std::unique_ptr<Tokenizer> load_sentencepiece(std::string_view model, const std::string& name);

// Trains a byte-pair-encoding model with byte fallback on `texts` and returns its serialized form. The result depends
// on the texts and the size alone. ConfigError when the texts are too few for `vocab_size` pieces, or that is below
// 300.
std::string train_sentencepiece(const std::vector<std::string_view>& texts, int vocab_size);

}  // namespace mmoe
