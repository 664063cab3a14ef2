#pragma once
// A data set on its way to disk: all files are written and synced before the first gets its name.

#include <array>
#include <memory>
#include <string>

#include "train/data/atomic_file.h"
#include "train/data/dataset_info.h"
#include "train/data/token_file.h"

namespace mmoe {

class DatasetWriter {
 public:
  // Opens PREFIX.json, so that a folder that cannot be written is known before hours of work. Throws ConfigError.
  explicit DatasetWriter(const std::string& prefix);
  // Opens PREFIX.<split>.bin and .idx of all splits.
  void open_tokens(int64_t vocab_size);
  TokenFileWriter& tokens(Split split) { return *tokens_[static_cast<size_t>(split)]; }

  // Writes PREFIX.model (unless `model` is empty, naming it in `info`) and PREFIX.json, then gives all files their
  // names, PREFIX.json last. std::system_error when the disk is full: an earlier data set is then still whole.
  void publish(DatasetInfo& info, const std::string& model);

 private:
  std::string prefix_;
  std::unique_ptr<AtomicFile> info_file_;
  std::array<std::unique_ptr<TokenFileWriter>, 4> tokens_;
};

}  // namespace mmoe
