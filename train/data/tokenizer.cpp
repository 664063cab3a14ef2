#include "train/data/tokenizer.h"

#include <array>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(i);
  }
  std::string_view kind() const override { return "bytes"; }
  int vocab_size() const override { return static_cast<int>(bytes_.size()); }
  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    tokens.reserve(tokens.size() + text.size());
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  }
  std::string_view token_text(int32_t token) const override {
    if (token < 0 || token >= vocab_size()) {
      throw ConfigError("token " + std::to_string(token) +
                        " is outside the vocabulary of the bytes tokenizer (0 to 255)");
    }
    return {&bytes_[static_cast<size_t>(token)], 1};
  }

 private:
  std::array<char, 256> bytes_;
};

class OpaqueTokenizer : public Tokenizer {
 public:
  explicit OpaqueTokenizer(int vocab_size) : vocab_size_(vocab_size) {}
  std::string_view kind() const override { return "none"; }
  int vocab_size() const override { return vocab_size_; }
  void encode(std::string_view, std::vector<int32_t>&) const override {
    throw ConfigError(
        "these tokens were imported without their tokenizer, so no text can be encoded; import them with "
        "--tokenizer-model");
  }
  std::string_view token_text(int32_t) const override { return {}; }

 private:
  int vocab_size_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_opaque_tokenizer(int vocab_size) {
  return std::make_unique<OpaqueTokenizer>(vocab_size);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  encode(text, tokens);
  return tokens;
}

std::string Tokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t token : tokens) text += token_text(token);
  return text;
}

int64_t Tokenizer::text_size(std::span<const int32_t> tokens) const {
  size_t size = 0;
  for (const int32_t token : tokens) size += token_text(token).size();
  return static_cast<int64_t>(size);
}

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace mmoe
