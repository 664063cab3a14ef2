#include "train/data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
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

// Whether a serialized model is one of byte pair encoding: model_type (field 3) of its trainer_spec (field 2 of
// ModelProto, sentencepiece_model.proto) is 2. False for what is no such message.
bool is_byte_pair_encoding(std::string_view model) {
  constexpr uint64_t kTrainerSpec = 2, kModelType = 3, kBytePairEncoding = 2;
  const auto varint = [](std::string_view& rest) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest.front());
      rest.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  std::string_view rest = model;
  bool within_spec = false;
  while (!rest.empty()) {
    const uint64_t key = varint(rest), field = key >> 3;
    uint64_t size = 0;
    switch (key & 7) {
      case 0: {
        const uint64_t value = varint(rest);
        if (within_spec && field == kModelType) return value == kBytePairEncoding;
        continue;
      }
      case 1:
        size = 8;
        break;
      case 2:
        size = varint(rest);
        break;
      case 5:
        size = 4;
        break;
      default:
        return false;
    }
    if (size > rest.size()) return false;
    if (!within_spec && field == kTrainerSpec && (key & 7) == 2) {
      rest = rest.substr(0, size);
      within_spec = true;
    } else {
      rest.remove_prefix(size);
    }
  }
  return false;
}

// Ids of words seen before, for one thread at a time.
class WordCache {
 public:
  const std::vector<int32_t>* find(std::string_view word) const {
    const auto found = ids_.find(word);
    return found == ids_.end() ? nullptr : &found->second;
  }
  void add(std::string_view word, const std::vector<int32_t>& ids) {
    if (ids_.size() < kMostWords && word.size() <= kLongestWord) ids_.emplace(word, ids);
  }

 private:
  static constexpr size_t kMostWords = 1 << 17, kLongestWord = 64;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view word) const { return std::hash<std::string_view>()(word); }
  };
  std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> ids_;
};

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
    words_are_apart_ =
        is_byte_pair_encoding(model) && std::none_of(token_texts_.begin(), token_texts_.end(), joins_words);
  }

  std::string_view kind() const override { return "sentencepiece"; }
  int vocab_size() const override { return static_cast<int>(token_texts_.size()); }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    const CacheLoan cache(*this);
    while (!text.empty()) {
      std::string_view chunk = first_chunk(text);
      text.remove_prefix(chunk.size());
      while (!chunk.empty()) {
        const size_t plain = plain_prefix(chunk);
        if (plain > 0) encode_plain(chunk.substr(0, plain), *cache, tokens);
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

  // A cache that no other thread uses meanwhile.
  class CacheLoan {
   public:
    explicit CacheLoan(const SentencePieceTokenizer& owner) : owner_(owner) {
      const std::lock_guard lock(owner_.mutex_);
      if (owner_.caches_.empty()) {
        cache_ = std::make_unique<WordCache>();
      } else {
        cache_ = std::move(owner_.caches_.back());
        owner_.caches_.pop_back();
      }
    }
    ~CacheLoan() {
      const std::lock_guard lock(owner_.mutex_);
      owner_.caches_.push_back(std::move(cache_));
    }
    CacheLoan(const CacheLoan&) = delete;
    CacheLoan& operator=(const CacheLoan&) = delete;
    WordCache& operator*() const { return *cache_; }

   private:
    const SentencePieceTokenizer& owner_;
    std::unique_ptr<WordCache> cache_;
  };

  // A space behind something else.
  static bool joins_words(const std::string& text) {
    const size_t word = text.find_first_not_of(' ');
    return word != std::string::npos && text.find(' ', word) != std::string::npos;
  }

  // Where no piece holds a space behind something else, merges of byte pair encoding never cross the begin of a word,
  // its spaces included: the words' ids one after another are the text's.
  void encode_plain(std::string_view text, WordCache& cache, std::vector<int32_t>& tokens) const {
    const size_t before = tokens.size();
    bool exact = words_are_apart_;
    for (std::string_view rest = text; exact && !rest.empty();) {
      const size_t letters = std::min(rest.find_first_not_of(' '), rest.size());
      const std::string_view word = rest.substr(0, rest.find(' ', letters));
      if (const std::vector<int32_t>* known = cache.find(word)) {
        tokens.insert(tokens.end(), known->begin(), known->end());
      } else if (const std::vector<int32_t> ids = exact_ids(word); !ids.empty()) {
        tokens.insert(tokens.end(), ids.begin(), ids.end());
        cache.add(word, ids);
      } else {
        exact = false;
      }
      rest.remove_prefix(word.size());
    }
    if (exact) return;
    tokens.resize(before);
    const std::vector<int32_t> ids = exact_ids(text);
    if (ids.empty()) {
      encode_bytes(text, tokens);
    } else {
      tokens.insert(tokens.end(), ids.begin(), ids.end());
    }
  }

  // Empty where what comes out is not `text`, so that a model with a normalisation of its own is exact too.
  std::vector<int32_t> exact_ids(std::string_view text) const {
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    size_t at = 0;
    bool exact = status.ok();
    for (size_t i = 0; exact && i < ids.size(); ++i) {
      const std::string_view piece = token_text(ids[i]);
      exact = text.substr(at).starts_with(piece) && !piece.empty();
      at += piece.size();
    }
    if (!exact || at != text.size()) ids.clear();
    return ids;
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::string name_;
  std::vector<std::string> token_texts_;
  std::array<int32_t, 256> byte_ids_;
  bool words_are_apart_ = false;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<WordCache>> caches_;
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
