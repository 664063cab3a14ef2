#pragma once
// Token files of other software, document by document.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "train/data/mapped_file.h"
#include "train/data/token_file.h"

namespace mmoe {

// kMegatron: PATH.bin and PATH.idx. Others are single files of ids in one stream: kUint16 and kUint32 bare, as nanoGPT
// writes them; kLlmC with llm.c's header of 256 int32 (magic 20240520: uint16 ids, 20240801: uint32; version; number of
// ids).
enum class ForeignFormat { kMegatron, kUint16, kUint32, kLlmC };
ForeignFormat parse_foreign_format(const std::string& name);

class ForeignTokens {
 public:
  // `document_end`: in a stream, the id that ends a document and belongs to it; below 0, the stream is one document.
  // Throws ConfigError for files that are damaged or of another format.
  ForeignTokens(const std::string& path, ForeignFormat format, int64_t vocab_size, int64_t document_end);

  int64_t num_documents() const { return static_cast<int64_t>(begins_.size()) - 1; }
  int64_t num_tokens() const { return begins_.back(); }
  // ConfigError when a token is outside the vocabulary.
  std::vector<int32_t> document(int64_t index) const;

 private:
  void read_stream(const std::string& path, ForeignFormat format, int64_t document_end);
  int64_t stream_token(int64_t index) const;

  int64_t vocab_size_;
  std::unique_ptr<TokenFile> indexed_;  // Megatron's
  std::unique_ptr<MappedFile> stream_;  // the others
  int64_t header_bytes_ = 0, token_bytes_ = 2;
  std::vector<int64_t> begins_ = {0};  // of documents, in tokens; the end behind the last
};

}  // namespace mmoe
