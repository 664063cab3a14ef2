#include "train/data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <array>
#include <cstdio>
#include <unordered_map>

#include "sim/units/errors.h"
#include "train/data/plain_text.h"

namespace mmoe {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581, how pieces write a space

// The library's reason without the place in its source before it and the advice on flags of its own behind it:
// "src/f.cc(12) [condition] reason. Increase vocab_size or ...".
std::string reason(const sentencepiece::util::Status& status) {
  const std::string message = status.message();
  const size_t bracket = message.find("] ");
  const size_t begin = bracket == std::string::npos ? 0 : bracket + 2;
  return message.substr(begin, message.find(" Increase", begin) - begin);
}

std::string piece_text(std::string piece) {
  for (size_t at = 0; (at = piece.find(kSpaceSymbol, at)) != std::string::npos; ++at) {
    piece.replace(at, kSpaceSymbol.size(), 1, ' ');
  }
  return piece;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view model, const std::string& name) : name_(name) {
    // An empty serialized model parses as a model without pieces, on which the library stops the program.
    const auto status = model.empty() ? sentencepiece::util::Status(sentencepiece::util::StatusCode::kDataLoss, "empty")
                                      : processor_.LoadFromSerializedProto(model);
    if (!status.ok()) {
      throw ConfigError(name + ": is no SentencePiece model (" + reason(status) +
                        "); build the data again, or name a .model file of SentencePiece");
    }
    token_texts_.resize(static_cast<size_t>(processor_.GetPieceSize()));
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      if (processor_.IsByte(id) || processor_.IsControl(id) || processor_.IsUnknown(id) || processor_.IsUnused(id))
        continue;
      token_texts_[static_cast<size_t>(id)] = piece_text(processor_.IdToPiece(id));
    }
    for (int byte = 0; byte < 256; ++byte) {
      char piece[8];
      std::snprintf(piece, sizeof piece, "<0x%02X>", byte);
      const int id = processor_.PieceToId(piece);
      if (id < 0 || id >= processor_.GetPieceSize() || !processor_.IsByte(id)) {
        throw ConfigError(name + ": has no piece " + piece +
                          ", so it cannot represent every text; use a model trained with byte fallback");
      }
      byte_ids_[static_cast<size_t>(byte)] = id;
      token_texts_[static_cast<size_t>(id)] = std::string(1, static_cast<char>(byte));
    }
  }

  std::string_view kind() const override { return "sentencepiece"; }
  int vocab_size() const override { return static_cast<int>(token_texts_.size()); }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    while (!text.empty()) {
      std::string_view chunk = first_chunk(text);
      text.remove_prefix(chunk.size());
      while (!chunk.empty()) {
        const size_t plain = plain_prefix(chunk);
        if (plain > 0) encode_plain(chunk.substr(0, plain), tokens);
        chunk.remove_prefix(plain);
        if (chunk.empty()) break;
        encode_bytes(chunk.substr(0, 1), tokens);
        chunk.remove_prefix(1);
      }
    }
  }

  std::string_view token_text(int32_t token) const override {
    if (token < 0 || token >= vocab_size()) {
      throw ConfigError(name_ + ": token " + std::to_string(token) + " is outside the vocabulary (0 to " +
                        std::to_string(vocab_size() - 1) + ")");
    }
    return token_texts_[static_cast<size_t>(token)];
  }

 private:
  void encode_bytes(std::string_view text, std::vector<int32_t>& tokens) const {
    for (const char byte : text) tokens.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  }

  // Compares what comes out with `text`, so that a model with a normalisation of its own is exact too.
  void encode_plain(std::string_view text, std::vector<int32_t>& tokens) const {
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    size_t at = 0;
    bool exact = status.ok();
    for (size_t i = 0; exact && i < ids.size(); ++i) {
      const std::string_view piece = token_text(ids[i]);
      exact = text.substr(at).starts_with(piece) && !piece.empty();
      at += piece.size();
    }
    if (exact && at == text.size()) {
      tokens.insert(tokens.end(), ids.begin(), ids.end());
    } else {
      encode_bytes(text, tokens);
    }
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::string name_;
  std::vector<std::string> token_texts_;
  std::array<int32_t, 256> byte_ids_;
};

// Hands the plain runs of the texts' chunks to the trainer, in which form they are encoded later.
class PlainRuns : public sentencepiece::SentenceIterator {
 public:
  explicit PlainRuns(const std::vector<std::string_view>& texts) {
    for (std::string_view text : texts) {
      while (!text.empty()) {
        std::string_view chunk = first_chunk(text);
        text.remove_prefix(chunk.size());
        while (!chunk.empty()) {
          const size_t plain = plain_prefix(chunk);
          if (plain > 0) runs_.push_back(chunk.substr(0, plain));
          chunk.remove_prefix(plain < chunk.size() ? plain + 1 : plain);
        }
      }
    }
    take();
  }
  bool empty() const { return runs_.empty(); }
  bool done() const override { return at_ >= runs_.size(); }
  void Next() override {
    ++at_;
    take();
  }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  void take() {
    if (at_ < runs_.size()) value_ = runs_[at_];
  }
  std::vector<std::string_view> runs_;
  std::string value_;
  size_t at_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(std::string_view model, const std::string& name) {
  return std::make_unique<SentencePieceTokenizer>(model, name);
}

std::string train_sentencepiece(const std::vector<std::string_view>& texts, int vocab_size) {
  constexpr int kLeastVocabSize = 300;  // 256 bytes, the unknown piece, and room for the commonest letters
  if (vocab_size < kLeastVocabSize) {
    throw ConfigError("--vocab-size " + std::to_string(vocab_size) + ": SentencePiece needs at least " +
                      std::to_string(kLeastVocabSize) +
                      ", since 256 ids are the bytes; raise it or take --tokenizer bytes");
  }
  PlainRuns runs(texts);
  if (runs.empty()) {
    throw ConfigError("--text: the train split holds no UTF-8 text to train SentencePiece on; take --tokenizer bytes");
  }
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(vocab_size)},
      {"character_coverage", "0.9995"},  // rarer characters are written as bytes
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"split_digits", "true"},
      {"max_sentence_length", std::to_string(kMaxChunkSize)},
      {"num_threads", "4"},  // not the machine's number: the model records it
      {"unk_id", "0"},
      {"bos_id", "-1"},
      {"eos_id", "-1"},
      {"pad_id", "-1"},
      {"minloglevel", "3"},
  };
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &runs, &model);
  if (!status.ok()) {
    throw ConfigError("--vocab-size " + std::to_string(vocab_size) + ": SentencePiece cannot train on this text (" +
                      reason(status) + "); choose another size, give more text or raise --sample-bytes");
  }
  return model;
}

}  // namespace mmoe
