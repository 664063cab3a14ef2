#include "train/data/dataset_writer.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "sim/units/errors.h"
#include "train/data/content_hash.h"
#include "train/data/dataset.h"

namespace mmoe {

DatasetWriter::DatasetWriter(const std::string& prefix) : prefix_(prefix) {
  if (prefix.empty() || prefix.back() == '/') {
    throw ConfigError("--out '" + prefix + "': needs a folder and the beginning of a file name, such as data/text");
  }
  info_file_ = std::make_unique<AtomicFile>(prefix + ".json");
}

void DatasetWriter::open_tokens(int64_t vocab_size) {
  for (const Split split : kSplits) {
    tokens_[static_cast<size_t>(split)] = std::make_unique<TokenFileWriter>(split_path(prefix_, split), vocab_size);
  }
}

void DatasetWriter::publish(DatasetInfo& info, const std::string& model) {
  std::unique_ptr<AtomicFile> model_file;
  if (!model.empty()) {
    model_file = std::make_unique<AtomicFile>(prefix_ + ".model");
    model_file->write(model);
    model_file->sync();
    info.model = std::filesystem::path(model_file->path()).filename();
    info.model_hash = content_hash_text(content_hash(model));
  }
  for (const auto& tokens : tokens_) tokens->sync();
  // File names may be any bytes; JSON may not.
  info_file_->write(to_json(info).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  info_file_->sync();

  // Without its PREFIX.json no half of an earlier build can be taken for a whole one, should the program end in
  // between.
  unlink(info_file_->path().c_str());
  if (model_file) model_file->publish();
  for (const auto& tokens : tokens_) tokens->publish();
  info_file_->publish();
}

}  // namespace mmoe
