#include "train/data/batches.h"

#include <algorithm>
#include <string>
#include <vector>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

int64_t whole_windows(const TokenFile& tokens, int64_t seq_len) {
  MMOE_CHECK(seq_len >= 1) << seq_len;
  if (tokens.num_tokens() <= seq_len) {
    throw ConfigError(tokens.path() + ": holds " + std::to_string(tokens.num_tokens()) +
                      " tokens, but one sample of training.seq_len = " + std::to_string(seq_len) + " takes " +
                      std::to_string(seq_len + 1) + "; give more text or a shorter sequence");
  }
  return (tokens.num_tokens() - 1) / seq_len;
}

}  // namespace

Batches::Batches(const TokenFile& tokens, int64_t seq_len, uint64_t seed)
    : tokens_(tokens), seq_len_(seq_len), order_(whole_windows(tokens, seq_len), seed) {}

void Batches::sample(int64_t index, int32_t* input, int32_t* target) const {
  const int64_t first = order_.sample(index) * seq_len_;
  tokens_.read(first, seq_len_, input);
  tokens_.read(first + 1, seq_len_, target);
}

EvaluationWindows::EvaluationWindows(const TokenFile& tokens, const Tokenizer& tokenizer, int64_t seq_len)
    : tokens_(tokens), tokenizer_(tokenizer), seq_len_(seq_len) {
  MMOE_CHECK(seq_len >= 1) << seq_len;
  if (tokens.num_tokens() < 2) {
    throw ConfigError(tokens.path() + ": holds " + std::to_string(tokens.num_tokens()) +
                      " tokens, and a loss needs at least 2; build the data with a larger share for this split");
  }
}

int64_t EvaluationWindows::window_size(int64_t index) const {
  MMOE_CHECK(index >= 0 && index < count()) << index << " of " << count();
  return std::min(seq_len_, num_targets() - index * seq_len_);
}

int64_t EvaluationWindows::window(int64_t index, int32_t* input, int32_t* target) const {
  const int64_t first = index * seq_len_, size = window_size(index);
  tokens_.read(first, size, input);
  tokens_.read(first + 1, size, target);
  std::fill(input + size, input + seq_len_, 0);
  std::fill(target + size, target + seq_len_, kNoTarget);
  return size;
}

int64_t EvaluationWindows::target_bytes(int64_t index) const {
  return text_size(tokens_, tokenizer_, index * seq_len_ + 1, window_size(index));
}

int64_t EvaluationWindows::target_bytes() const { return text_size(tokens_, tokenizer_, 1, num_targets()); }

int64_t text_size(const TokenFile& tokens, const Tokenizer& tokenizer, int64_t first, int64_t count) {
  constexpr int64_t kBlock = 1 << 16;
  std::vector<int32_t> block(static_cast<size_t>(std::min(count, kBlock)));
  int64_t size = 0;
  for (int64_t done = 0; done < count; done += kBlock) {
    const int64_t some = std::min(kBlock, count - done);
    tokens.read(first + done, some, block.data());
    size += tokenizer.text_size({block.data(), static_cast<size_t>(some)});
  }
  return size;
}

}  // namespace mmoe
