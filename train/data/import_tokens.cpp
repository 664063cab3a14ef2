#include "train/data/import_tokens.h"

#include <memory>
#include <unordered_set>

#include "sim/units/errors.h"
#include "train/data/content_hash.h"
#include "train/data/dataset_writer.h"
#include "train/data/mapped_file.h"
#include "train/data/sentencepiece_tokenizer.h"
#include "train/data/statistics.h"
#include "train/data/tokenizer.h"

namespace mmoe {
namespace {

std::string_view bytes_of(const std::vector<int32_t>& tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(int32_t)};
}

}  // namespace

DatasetInfo import_tokens(const ImportTokensOptions& options) {
  if (options.token_files.empty()) throw ConfigError("--tokens names no file; name at least one");
  DatasetWriter writer(options.prefix);
  std::string model;
  std::unique_ptr<Tokenizer> tokenizer;
  if (options.tokenizer_model.empty()) {
    if (options.vocab_size < 1 || options.vocab_size > (int64_t{1} << 31) - 1) {
      throw ConfigError("--vocab-size is needed: the number of ids that the tokens' tokenizer has, below 2^31");
    }
    tokenizer = make_opaque_tokenizer(static_cast<int>(options.vocab_size));
  } else {
    model = MappedFile(options.tokenizer_model).bytes();
    tokenizer = load_sentencepiece(model, options.tokenizer_model);
    if (options.vocab_size != 0 && options.vocab_size != tokenizer->vocab_size()) {
      throw ConfigError("--vocab-size " + std::to_string(options.vocab_size) + ": " + options.tokenizer_model +
                        " has " + std::to_string(tokenizer->vocab_size()) + " ids; leave the flag out");
    }
  }
  std::vector<ForeignTokens> files;
  int64_t documents = 0;
  for (const std::string& path : options.token_files) {
    files.emplace_back(path, options.format, tokenizer->vocab_size(), options.document_end);
    documents += files.back().num_documents();
  }
  if (documents == 0) throw ConfigError(options.token_files[0] + ": holds no document");
  const std::vector<Split> splits = assign_splits(documents, options.split_fractions, options.seed);

  DatasetInfo info;
  info.tokenizer = tokenizer->kind();
  info.vocab_size = tokenizer->vocab_size();
  info.seed = options.seed;
  info.split_fractions = options.split_fractions;
  info.text_files = options.token_files;
  writer.open_tokens(info.vocab_size);
  std::vector<int64_t> train_counts(static_cast<size_t>(info.vocab_size));
  std::unordered_set<uint64_t> train_hashes;
  uint64_t hash = content_hash("");
  // Train documents first, so that held-out ones can be looked for among them.
  for (const bool train : {true, false}) {
    size_t number = 0;
    for (const ForeignTokens& file : files) {
      for (int64_t i = 0; i < file.num_documents(); ++i) {
        const Split split = splits[number++];
        if ((split == Split::kTrain) != train) continue;
        const std::vector<int32_t> tokens = file.document(i);
        SplitInfo& counts = info.split(split);
        writer.tokens(split).add_document(tokens);
        ++counts.documents;
        counts.tokens += static_cast<int64_t>(tokens.size());
        counts.bytes += tokenizer->text_size(tokens);
        hash = content_hash(bytes_of(tokens), hash);
        const uint64_t own_hash = content_hash(bytes_of(tokens));
        if (train) {
          train_hashes.insert(own_hash);
          for (const int32_t token : tokens) ++train_counts[static_cast<size_t>(token)];
        } else {
          counts.documents_in_train += train_hashes.contains(own_hash) ? 1 : 0;
        }
      }
    }
  }
  for (const Split split : kSplits) info.text_bytes += info.split(split).bytes;
  info.text_hash = content_hash_text(hash);
  info.unigram_entropy_bits_per_byte = unigram_entropy_bits_per_byte(train_counts, info.split(Split::kTrain).bytes);
  writer.publish(info, model);
  return info;
}

}  // namespace mmoe
