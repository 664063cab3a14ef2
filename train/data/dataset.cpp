#include "train/data/dataset.h"

#include "sim/units/errors.h"
#include "train/data/content_hash.h"
#include "train/data/sentencepiece_tokenizer.h"

namespace mmoe {
namespace {

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& prefix, const DatasetInfo& info) {
  if (info.tokenizer == "bytes") return make_byte_tokenizer();
  if (info.tokenizer == "none") return make_opaque_tokenizer(static_cast<int>(info.vocab_size));
  if (info.tokenizer != "sentencepiece") {
    throw ConfigError(prefix + ".json: tokenizer is '" + info.tokenizer +
                      "'; this program knows bytes, sentencepiece and none");
  }
  const size_t slash = prefix.rfind('/');
  const MappedFile model((slash == std::string::npos ? "" : prefix.substr(0, slash + 1)) + info.model);
  if (content_hash_text(content_hash(model.bytes())) != info.model_hash) {
    throw ConfigError(model.path() + ": is not the model that " + prefix +
                      ".json was built with; build the data again");
  }
  return load_sentencepiece(model.bytes(), model.path());
}

}  // namespace

std::string split_path(const std::string& prefix, Split split) { return prefix + "." + std::string(split_name(split)); }

Dataset::Dataset(const std::string& prefix)
    : info_(load_dataset_info(prefix)), tokenizer_(open_tokenizer(prefix, info_)) {
  const auto disagree = [&](const std::string& path, const char* what, int64_t has, int64_t stated) {
    if (has == stated) return;
    throw ConfigError(path + ": has " + std::to_string(has) + " " + what + ", but " + prefix + ".json states " +
                      std::to_string(stated) + "; the files are from different builds, build the data again");
  };
  disagree(info_.model.empty() ? prefix + ".json" : info_.model, "ids in its vocabulary", tokenizer_->vocab_size(),
           info_.vocab_size);
  for (const Split split : kSplits) {
    auto& tokens = tokens_[static_cast<size_t>(split)];
    tokens = std::make_unique<TokenFile>(split_path(prefix, split), info_.vocab_size);
    disagree(tokens->path(), "tokens", tokens->num_tokens(), info_.split(split).tokens);
    disagree(tokens->path(), "documents", tokens->num_documents(), info_.split(split).documents);
  }
}

}  // namespace mmoe
