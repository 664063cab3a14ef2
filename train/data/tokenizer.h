#pragma once
// Text to token ids and back, without loss: decoding what was encoded gives back the exact bytes, whatever they are.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// Const member functions may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // "bytes", "sentencepiece" or "none", as PREFIX.json and --tokenizer name it.
  virtual std::string_view kind() const = 0;
  virtual int vocab_size() const = 0;
  // Appends the ids of `text` (any bytes) to `tokens`.
  virtual void encode(std::string_view text, std::vector<int32_t>& tokens) const = 0;
  // The text that one token stands for; empty for ids that encode() never gives. ConfigError outside the vocabulary.
  virtual std::string_view token_text(int32_t token) const = 0;

  std::vector<int32_t> encode(std::string_view text) const;
  std::string decode(std::span<const int32_t> tokens) const;
  // Bytes of text that the tokens stand for: the denominator of bits per byte.
  int64_t text_size(std::span<const int32_t> tokens) const;
};

// Stands for the unknown tokenizer of imported tokens ("none"): cannot encode, and its tokens stand for no text.
std::unique_ptr<Tokenizer> make_opaque_tokenizer(int vocab_size);

// Ids 0..255 are the bytes.
std::unique_ptr<Tokenizer> make_byte_tokenizer();

}  // namespace mmoe
