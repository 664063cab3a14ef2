#pragma once
// Inputs and targets cut from the concatenated documents of a token file. Windows do not overlap; documents do not
// bound them. A window of seq_len positions reads seq_len + 1 tokens: target[i] is the token after input[i].

#include <cstdint>

#include "train/data/sample_order.h"
#include "train/data/token_file.h"
#include "train/data/tokenizer.h"

namespace mmoe {

// Training samples, shuffled anew each epoch. State is the index of the next sample, nothing else. A token file's tail
// of fewer than seq_len + 1 tokens is not trained on. `tokens` must outlive this; calls from several threads are safe.
class Batches {
 public:
  // ConfigError when `tokens` holds no whole window.
  Batches(const TokenFile& tokens, int64_t seq_len, uint64_t seed);
  int64_t samples_per_epoch() const { return order_.num_samples(); }
  int64_t seq_len() const { return seq_len_; }
  // Fills input[seq_len] and target[seq_len] with sample `index` of the whole run, epochs included: row r of global
  // batch s (both from 0) is sample s * global_batch_size + r, in any layout.
  void sample(int64_t index, int32_t* input, int32_t* target) const;

 private:
  const TokenFile& tokens_;
  int64_t seq_len_;
  SampleOrder order_;
};

// Evaluation windows in the order of the text. Every token but the first is a target exactly once; the last window may
// be short. `tokens` and `tokenizer` must outlive this.
class EvaluationWindows {
 public:
  // What cross-entropy skips: PyTorch's default ignore_index.
  static constexpr int32_t kNoTarget = -100;

  // ConfigError when `tokens` holds fewer than two tokens.
  EvaluationWindows(const TokenFile& tokens, const Tokenizer& tokenizer, int64_t seq_len);
  int64_t count() const { return (num_targets() + seq_len_ - 1) / seq_len_; }
  int64_t num_targets() const { return tokens_.num_tokens() - 1; }
  int64_t seq_len() const { return seq_len_; }
  // Fills input[seq_len] and target[seq_len] and returns how many targets there are; the rest is input 0, kNoTarget.
  int64_t window(int64_t index, int32_t* input, int32_t* target) const;
  // Bytes of text that the targets of a window, or of all windows, stand for.
  int64_t target_bytes(int64_t index) const;
  int64_t target_bytes() const;

 private:
  int64_t window_size(int64_t index) const;
  const TokenFile& tokens_;
  const Tokenizer& tokenizer_;
  int64_t seq_len_;
};

// Bytes of text behind tokens [first, first + count) of a file.
int64_t text_size(const TokenFile& tokens, const Tokenizer& tokenizer, int64_t first, int64_t count);

}  // namespace mmoe
