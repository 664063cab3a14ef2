#pragma once
// Inputs and targets cut from the documents of token files: target[i] is the token after input[i].

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sim/config/training_config.h"
#include "train/data/best_fit_packing.h"
#include "train/data/blend.h"
#include "train/data/sample_order.h"
#include "train/data/token_file.h"
#include "train/data/tokenizer.h"

namespace mmoe {

// What cross-entropy skips: PyTorch's default ignore_index.
inline constexpr int32_t kNoTarget = -100;

// Whether a sequence's documents run on into each other, or a document's last token has no target.
enum class Documents { kRunOn, kApart };

// How samples are made of documents. kConcatenate: windows of the concatenated documents that do not overlap; a token
// file's tail of fewer than seq_len + 1 tokens is left out. kBestFit: BestFitPacking, padded with input 0 and no
// target.
struct SampleRules {
  int64_t seq_len = 0;
  Packing packing = Packing::kConcatenate;
  Documents documents = Documents::kRunOn;
};
SampleRules sample_rules(const TrainingConfig& training);

struct DataSource {
  const TokenFile* tokens = nullptr;
  double weight = 0;  // its share of the samples, in any unit; 0 for all: as many as it has
};

// Training samples, the sources' blended, each source's shuffled anew in each of its epochs. State is the index of the
// next sample, nothing else. The token files must outlive this; calls from several threads are safe.
class Batches {
 public:
  // ConfigError when a source holds no whole sample.
  Batches(const std::vector<DataSource>& sources, const SampleRules& rules, uint64_t seed);
  Batches(const TokenFile& tokens, int64_t seq_len, uint64_t seed) : Batches({{&tokens}}, {seq_len}, seed) {}
  // Of all sources once.
  int64_t samples_per_epoch() const;
  int64_t seq_len() const { return rules_.seq_len; }
  // Of all positions in the samples of an epoch, those that hold no token.
  double padding_fraction() const;
  // Fills input[seq_len] and target[seq_len] with sample `index` of the whole run, epochs included: row r of global
  // batch s (both from 0) is sample s * global_batch_size + r, in any layout.
  void sample(int64_t index, int32_t* input, int32_t* target) const;

 private:
  struct Source {
    const TokenFile* tokens;
    std::optional<BestFitPacking> packing;
    SampleOrder order;
  };
  void window(const TokenFile& tokens, int64_t index, int32_t* input, int32_t* target) const;
  void packed(const Source& source, int64_t index, int32_t* input, int32_t* target) const;

  SampleRules rules_;
  std::vector<Source> sources_;
  std::unique_ptr<Blend> blend_;
};

// Evaluation windows in the order of the text. Every token but the first of all, or of each document where they are
// kept apart, is a target exactly once; the last window may be short. `tokens` and `tokenizer` must outlive this.
class EvaluationWindows {
 public:
  // ConfigError when `tokens` holds fewer than two tokens, or no target.
  EvaluationWindows(const TokenFile& tokens, const Tokenizer& tokenizer, int64_t seq_len,
                    Documents documents = Documents::kRunOn);
  int64_t count() const { return (tokens_.num_tokens() - 2 + seq_len_) / seq_len_; }
  int64_t num_targets() const { return num_targets_; }
  int64_t seq_len() const { return seq_len_; }
  Documents documents() const { return documents_; }
  // Fills input[seq_len] and target[seq_len] and returns how many targets there are; the rest is kNoTarget, and input 0
  // behind the end.
  int64_t window(int64_t index, int32_t* input, int32_t* target) const;
  // Bytes of text that the targets of a window, or of all windows, stand for.
  int64_t target_bytes(int64_t index) const;
  int64_t target_bytes() const;

 private:
  int64_t window_size(int64_t index) const;
  std::vector<int64_t> missing_targets(int64_t first, int64_t count) const;
  int64_t bytes_of_targets(int64_t first, int64_t count) const;
  const TokenFile& tokens_;
  const Tokenizer& tokenizer_;
  int64_t seq_len_;
  Documents documents_;
  int64_t num_targets_ = 0;
};

// Lengths of the documents in sequences of seq_len positions, where they are kept apart: a document ends where there is
// no target, and with its sequence. Padding counts to the document before it.
std::vector<int64_t> document_lengths(const int32_t* targets, int64_t count, int64_t seq_len);

// Bytes of text behind tokens [first, first + count) of a file.
int64_t text_size(const TokenFile& tokens, const Tokenizer& tokenizer, int64_t first, int64_t count);

}  // namespace mmoe
