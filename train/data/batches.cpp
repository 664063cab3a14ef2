#include "train/data/batches.h"

#include <algorithm>
#include <string>
#include <vector>

#include "sim/units/errors.h"
#include "train/data/counter_random.h"

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

SampleRules sample_rules(const TrainingConfig& training) {
  return {training.seq_len, training.packing, training.reset_attention_mask ? Documents::kApart : Documents::kRunOn};
}

Batches::Batches(const std::vector<DataSource>& sources, const SampleRules& rules, uint64_t seed) : rules_(rules) {
  MMOE_CHECK(!sources.empty()) << "no data";
  std::vector<double> weights;
  for (size_t d = 0; d < sources.size(); ++d) {
    const TokenFile& tokens = *sources[d].tokens;
    std::optional<BestFitPacking> packing;
    if (rules.packing == Packing::kBestFit) packing.emplace(tokens, rules.seq_len);
    const int64_t samples = packing ? packing->num_sequences() : whole_windows(tokens, rules.seq_len);
    // The first source's order is that of a run on it alone.
    sources_.push_back({&tokens, std::move(packing), SampleOrder(samples, d == 0 ? seed : counter_random(seed, d))});
    weights.push_back(sources[d].weight > 0 ? sources[d].weight : static_cast<double>(samples));
  }
  if (sources.size() > 1) blend_ = std::make_unique<Blend>(weights);
}

int64_t Batches::samples_per_epoch() const {
  int64_t samples = 0;
  for (const Source& source : sources_) samples += source.order.num_samples();
  return samples;
}

double Batches::padding_fraction() const {
  double padding = 0;
  for (const Source& source : sources_) {
    if (source.packing) padding += source.packing->padding_fraction() * static_cast<double>(source.order.num_samples());
  }
  return padding / static_cast<double>(samples_per_epoch());
}

void Batches::sample(int64_t index, int32_t* input, int32_t* target) const {
  const Blend::Place place = blend_ ? blend_->at(index) : Blend::Place{0, index};
  const Source& source = sources_[static_cast<size_t>(place.source)];
  const int64_t sample = source.order.sample(place.index);
  source.packing ? packed(source, sample, input, target) : window(*source.tokens, sample, input, target);
}

void Batches::window(const TokenFile& tokens, int64_t index, int32_t* input, int32_t* target) const {
  const int64_t first = index * rules_.seq_len;
  tokens.read(first, rules_.seq_len, input);
  tokens.read(first + 1, rules_.seq_len, target);
  if (rules_.documents == Documents::kRunOn) return;
  for (const int64_t begin : tokens.document_begins(first + 1, rules_.seq_len)) target[begin - first - 1] = kNoTarget;
}

void Batches::packed(const Source& source, int64_t index, int32_t* input, int32_t* target) const {
  std::fill(input, input + rules_.seq_len, 0);
  std::fill(target, target + rules_.seq_len, kNoTarget);
  int64_t at = 0;
  for (const DocumentPiece& piece : source.packing->sequence(index)) {
    source.tokens->read(piece.first, piece.length, input + at);
    if (at > 0 && rules_.documents == Documents::kRunOn) target[at - 1] = input[at];
    source.tokens->read(piece.first + 1, piece.length - (piece.continues ? 0 : 1), target + at);
    at += piece.length;
  }
}

EvaluationWindows::EvaluationWindows(const TokenFile& tokens, const Tokenizer& tokenizer, int64_t seq_len,
                                     Documents documents)
    : tokens_(tokens), tokenizer_(tokenizer), seq_len_(seq_len), documents_(documents) {
  MMOE_CHECK(seq_len >= 1) << seq_len;
  if (tokens.num_tokens() < 2) {
    throw ConfigError(tokens.path() + ": holds " + std::to_string(tokens.num_tokens()) +
                      " tokens, and a loss needs at least 2; build the data with a larger share for this split");
  }
  const int64_t candidates = tokens.num_tokens() - 1;
  num_targets_ = candidates - static_cast<int64_t>(missing_targets(1, candidates).size());
  if (num_targets_ == 0) {
    throw ConfigError(tokens.path() + ": every document is one token long, so none has a target to evaluate");
  }
}

int64_t EvaluationWindows::window_size(int64_t index) const {
  MMOE_CHECK(index >= 0 && index < count()) << index << " of " << count();
  return std::min(seq_len_, tokens_.num_tokens() - 1 - index * seq_len_);
}

// Of tokens [first, first + count), those that are no target.
std::vector<int64_t> EvaluationWindows::missing_targets(int64_t first, int64_t count) const {
  if (documents_ == Documents::kRunOn) return {};
  return tokens_.document_begins(first, count);
}

int64_t EvaluationWindows::window(int64_t index, int32_t* input, int32_t* target) const {
  const int64_t first = index * seq_len_, size = window_size(index);
  tokens_.read(first, size, input);
  tokens_.read(first + 1, size, target);
  std::fill(input + size, input + seq_len_, 0);
  std::fill(target + size, target + seq_len_, kNoTarget);
  const std::vector<int64_t> missing = missing_targets(first + 1, size);
  for (const int64_t token : missing) target[token - first - 1] = kNoTarget;
  return size - static_cast<int64_t>(missing.size());
}

int64_t EvaluationWindows::bytes_of_targets(int64_t first, int64_t count) const {
  int64_t bytes = text_size(tokens_, tokenizer_, first, count);
  for (const int64_t token : missing_targets(first, count)) bytes -= text_size(tokens_, tokenizer_, token, 1);
  return bytes;
}

int64_t EvaluationWindows::target_bytes(int64_t index) const {
  return bytes_of_targets(index * seq_len_ + 1, window_size(index));
}

int64_t EvaluationWindows::target_bytes() const { return bytes_of_targets(1, tokens_.num_tokens() - 1); }

std::vector<int64_t> document_lengths(const int32_t* targets, int64_t count, int64_t seq_len) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < count; ++i) {
    if (i % seq_len == 0 || (targets[i - 1] == kNoTarget && targets[i] != kNoTarget)) lengths.push_back(0);
    ++lengths.back();
  }
  return lengths;
}

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
