#pragma once
// Token files in Megatron-LM's indexed format (megatron/core/datasets/indexed_dataset.py): PATH.bin holds the token
// ids, PATH.idx where each document begins. Little-endian:
//   "MMIDIDX\0\0", uint64 version = 1, uint8 type (TokenType), uint64 S sequences, uint64 D + 1,
//   int32 length[S] in tokens, int64 begin[S] in bytes of PATH.bin, int64 first_sequence[D + 1] of each document

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "train/data/atomic_file.h"
#include "train/data/mapped_file.h"

namespace mmoe {

// Megatron-LM's codes of its integer types.
enum class TokenType : uint8_t { kUint8 = 1, kInt8 = 2, kInt16 = 3, kInt32 = 4, kInt64 = 5, kUint16 = 8 };

// What is written: uint16 where Megatron-LM takes it too (vocabularies below 65,500), else int32.
TokenType token_type(int64_t vocab_size);

// One sequence a document. Neither file has its final name before publish().
class TokenFileWriter {
 public:
  TokenFileWriter(const std::string& path, int64_t vocab_size);
  // ConfigError for a document of 2^31 tokens or more, which the format cannot hold.
  void add_document(std::span<const int32_t> tokens);
  // Writes the index; nothing can be added afterwards, and publish() needs no more space.
  void sync();
  void publish();

  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(lengths_.size()); }

 private:
  TokenType type_;
  AtomicFile bin_, idx_;
  std::vector<int32_t> lengths_;
  std::vector<uint16_t> narrow_;
  int64_t num_tokens_ = 0;
};

// The concatenated documents of one token file, memory-mapped. May be read from several threads.
class TokenFile {
 public:
  // ConfigError naming the file when one is missing, cut short or not in the format, or its parts disagree.
  explicit TokenFile(const std::string& path, int64_t vocab_size = std::numeric_limits<int32_t>::max());

  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return num_documents_; }
  TokenType type() const { return type_; }
  // PATH.bin, for messages.
  const std::string& path() const { return bin_.path(); }

  // Position of a document's first token; num_tokens() for num_documents().
  int64_t document_begin(int64_t document) const;
  // Those of positions [first, first + count) at which a document with tokens begins, ascending.
  std::vector<int64_t> document_begins(int64_t first, int64_t count) const;
  // Copies tokens [first, first + count). ConfigError when one is outside the vocabulary.
  void read(int64_t first, int64_t count, int32_t* tokens) const;
  std::vector<int32_t> read(int64_t first, int64_t count) const;

 private:
  template <class T>
  T index_value(size_t offset) const;
  void check_index();

  MappedFile bin_, idx_;
  TokenType type_ = TokenType::kInt32;
  int64_t vocab_size_, num_tokens_ = 0, num_sequences_ = 0, num_documents_ = 0;
};

}  // namespace mmoe
