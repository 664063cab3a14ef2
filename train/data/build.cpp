#include "train/data/build.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <future>
#include <memory>
#include <span>
#include <string_view>
#include <thread>
#include <unordered_set>

#include "sim/units/errors.h"
#include "train/data/content_hash.h"
#include "train/data/counter_random.h"
#include "train/data/dataset_writer.h"
#include "train/data/documents.h"
#include "train/data/json_lines.h"
#include "train/data/mapped_file.h"
#include "train/data/parquet.h"
#include "train/data/plain_text.h"
#include "train/data/sentencepiece_tokenizer.h"
#include "train/data/statistics.h"
#include "train/data/token_file.h"

namespace mmoe {
namespace {

constexpr int64_t kMaxVocabSize = 10'000'000;

using Documents = std::vector<std::string_view>;

int num_threads(const BuildOptions& options) {
  return options.num_threads > 0 ? options.num_threads
                                 : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void report(const BuildOptions& options, const std::string& doing, double fraction) {
  if (options.progress) options.progress(doing, fraction);
}

std::vector<MappedFile> open_text(const std::vector<std::string>& paths) {
  if (paths.empty()) throw ConfigError("--text names no file; name at least one text file");
  std::vector<MappedFile> files;
  for (const std::string& path : paths) {
    files.emplace_back(path);
    if (files.back().bytes().empty()) throw ConfigError(path + ": is empty; name a file with text in it");
  }
  return files;
}

int64_t total_size(const Documents& documents) {
  size_t size = 0;
  for (const std::string_view document : documents) size += document.size();
  return static_cast<int64_t>(size);
}

// Chunks of the documents, each kept with the same probability, at most `limit` bytes in all; everything when it fits.
Documents training_sample(const Documents& documents, int64_t limit, uint64_t seed) {
  const int64_t total = total_size(documents);
  if (total <= limit) return documents;
  const double keep = static_cast<double>(limit) / static_cast<double>(total);
  const auto threshold = static_cast<uint64_t>(keep * 0x1p64);
  Documents sample;
  int64_t size = 0;
  uint64_t counter = 0;
  for (std::string_view rest : documents) {
    while (!rest.empty()) {
      const std::string_view chunk = first_chunk(rest);
      rest.remove_prefix(chunk.size());
      if (counter_random(seed, counter++) >= threshold) continue;
      size += static_cast<int64_t>(chunk.size());
      if (size > limit) return sample;
      sample.push_back(chunk);
    }
  }
  return sample;
}

// `model` becomes the serialized SentencePiece model; it stays empty for bytes.
std::unique_ptr<Tokenizer> make_tokenizer(const BuildOptions& options, const Documents& train_documents,
                                          std::string& model) {
  const auto require_vocab_size = [&](const Tokenizer& tokenizer, const std::string& name) {
    if (options.vocab_size == 0 || options.vocab_size == tokenizer.vocab_size()) return;
    throw ConfigError("--vocab-size " + std::to_string(options.vocab_size) + ": " + name + " has " +
                      std::to_string(tokenizer.vocab_size()) + " ids; leave the flag out");
  };
  if (options.tokenizer == "bytes") {
    if (!options.tokenizer_model.empty()) {
      throw ConfigError("--tokenizer-model " + options.tokenizer_model +
                        ": the bytes tokenizer has no model; add --tokenizer sentencepiece");
    }
    auto tokenizer = make_byte_tokenizer();
    require_vocab_size(*tokenizer, "the bytes tokenizer");
    return tokenizer;
  }
  if (options.tokenizer != "sentencepiece") {
    throw ConfigError("--tokenizer " + options.tokenizer + ": there is no such tokenizer; use bytes or sentencepiece");
  }
  if (!options.tokenizer_model.empty()) {
    model = MappedFile(options.tokenizer_model).bytes();
    auto tokenizer = load_sentencepiece(model, options.tokenizer_model);
    require_vocab_size(*tokenizer, options.tokenizer_model);
    return tokenizer;
  }
  if (options.vocab_size == 0) {
    throw ConfigError(
        "--tokenizer sentencepiece needs --vocab-size, the number of pieces to learn, such as --vocab-size 2048");
  }
  if (options.vocab_size < 0 || options.vocab_size > kMaxVocabSize) {
    throw ConfigError("--vocab-size " + std::to_string(options.vocab_size) + ": must be at most " +
                      std::to_string(kMaxVocabSize));
  }
  const Documents sample = training_sample(train_documents, options.sample_bytes, options.seed);
  report(options, "training SentencePiece on " + std::to_string(total_size(sample)) + " bytes", 0);
  model = train_sentencepiece(sample, static_cast<int>(options.vocab_size));
  return load_sentencepiece(model, options.prefix + ".model");
}

std::vector<std::vector<int32_t>> encode(const Tokenizer& tokenizer, std::span<const std::string_view> documents,
                                         int threads) {
  std::vector<std::vector<int32_t>> tokens(documents.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i; (i = next++) < documents.size();) tokenizer.encode(documents[i], tokens[i]);
  };
  std::vector<std::future<void>> workers;
  for (int i = 1; i < threads; ++i) workers.push_back(std::async(std::launch::async, work));
  work();
  for (auto& worker : workers) worker.get();
  return tokens;
}

// The text that makes two documents the same: all but the white space at its end.
uint64_t document_hash(std::string_view document) {
  return content_hash(document.substr(0, document.find_last_not_of(" \t\r\n") + 1));
}

// Encodes one split, adding to `done_bytes` of `all_bytes`. Counts each token in `token_counts`.
SplitInfo encode_split(const BuildOptions& options, const Tokenizer& tokenizer, const Documents& documents,
                       TokenFileWriter& writer, std::vector<int64_t>& token_counts, int64_t& done_bytes,
                       int64_t all_bytes) {
  constexpr size_t kBatchBytes = 8 << 20;
  for (size_t begin = 0; begin < documents.size();) {
    size_t end = begin, size = 0;
    while (end < documents.size() && size < kBatchBytes) size += documents[end++].size();
    for (const auto& tokens : encode(tokenizer, {&documents[begin], end - begin}, num_threads(options))) {
      writer.add_document(tokens);
      for (const int32_t token : tokens) ++token_counts[static_cast<size_t>(token)];
    }
    done_bytes += static_cast<int64_t>(size);
    report(options, "encoding", static_cast<double>(done_bytes) / static_cast<double>(all_bytes));
    begin = end;
  }
  return {.documents = writer.num_documents(), .tokens = writer.num_tokens(), .bytes = total_size(documents)};
}

}  // namespace

DatasetInfo build_dataset(const BuildOptions& options) {
  if (options.sample_bytes < 1)
    throw ConfigError("--sample-bytes " + std::to_string(options.sample_bytes) + ": must be at least 1");
  const std::vector<MappedFile> files = open_text(options.text_files);
  DatasetInfo info;
  uint64_t text_hash = content_hash("");
  Documents documents;
  std::deque<std::vector<std::string>>
      decoded;  // documents of JSON Lines and Parquet; the others are views into the files
  for (const MappedFile& file : files) {
    if (is_json_lines(file.path())) {
      decoded.push_back(json_lines_documents(file.bytes(), options.json_key, file.path()));
      documents.insert(documents.end(), decoded.back().begin(), decoded.back().end());
    } else if (is_parquet(file.path())) {
      decoded.push_back(parquet_documents(file.bytes(), options.json_key, file.path()));
      documents.insert(documents.end(), decoded.back().begin(), decoded.back().end());
    } else {
      const Documents found = split_documents(file.bytes(), options.separator);
      documents.insert(documents.end(), found.begin(), found.end());
    }
    text_hash = content_hash(file.bytes(), text_hash);
  }
  const std::vector<Split> splits =
      assign_splits(static_cast<int64_t>(documents.size()), options.split_fractions, options.seed);
  std::array<Documents, 4> documents_by_split;
  for (size_t i = 0; i < documents.size(); ++i)
    documents_by_split[static_cast<size_t>(splits[i])].push_back(documents[i]);
  const Documents& train_documents = documents_by_split[static_cast<size_t>(Split::kTrain)];

  DatasetWriter writer(options.prefix);
  std::string model;
  const auto tokenizer = make_tokenizer(options, train_documents, model);
  writer.open_tokens(tokenizer->vocab_size());

  info.tokenizer = tokenizer->kind();
  info.vocab_size = tokenizer->vocab_size();
  info.separator = escape_text(options.separator);
  info.seed = options.seed;
  info.split_fractions = options.split_fractions;
  info.text_files = options.text_files;
  info.text_bytes = total_size(documents);
  info.text_hash = content_hash_text(text_hash);

  std::unordered_set<uint64_t> train_hashes;
  for (const std::string_view document : train_documents) train_hashes.insert(document_hash(document));
  int64_t done_bytes = 0;
  report(options, "encoding", 0);
  for (const Split split : kSplits) {
    std::vector<int64_t> token_counts(static_cast<size_t>(info.vocab_size));
    const Documents& of_split = documents_by_split[static_cast<size_t>(split)];
    info.split(split) =
        encode_split(options, *tokenizer, of_split, writer.tokens(split), token_counts, done_bytes, info.text_bytes);
    if (split == Split::kTrain) {
      info.unigram_entropy_bits_per_byte = unigram_entropy_bits_per_byte(token_counts, info.split(split).bytes);
    } else {
      info.split(split).documents_in_train =
          std::count_if(of_split.begin(), of_split.end(),
                        [&](std::string_view document) { return train_hashes.contains(document_hash(document)); });
    }
  }

  writer.publish(info, model);
  return info;
}

}  // namespace mmoe
