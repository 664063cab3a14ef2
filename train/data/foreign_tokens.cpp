#include "train/data/foreign_tokens.h"

#include <cstring>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// llm.c, dev/data/data_common.py.
constexpr int64_t kLlmCHeaderBytes = 1024;
constexpr int32_t kLlmCGpt2 = 20240520, kLlmCLlama3 = 20240801;

}  // namespace

ForeignFormat parse_foreign_format(const std::string& name) {
  if (name == "megatron") return ForeignFormat::kMegatron;
  if (name == "uint16") return ForeignFormat::kUint16;
  if (name == "uint32") return ForeignFormat::kUint32;
  if (name == "llmc") return ForeignFormat::kLlmC;
  throw ConfigError("--format " + name + " is unknown; use megatron, uint16, uint32 or llmc");
}

ForeignTokens::ForeignTokens(const std::string& path, ForeignFormat format, int64_t vocab_size, int64_t document_end)
    : vocab_size_(vocab_size) {
  if (format != ForeignFormat::kMegatron) {
    read_stream(path, format, document_end);
    return;
  }
  const bool has_ending = path.ends_with(".bin") || path.ends_with(".idx");
  indexed_ = std::make_unique<TokenFile>(has_ending ? path.substr(0, path.size() - 4) : path, vocab_size);
  for (int64_t i = 1; i <= indexed_->num_documents(); ++i) begins_.push_back(indexed_->document_begin(i));
}

void ForeignTokens::read_stream(const std::string& path, ForeignFormat format, int64_t document_end) {
  stream_ = std::make_unique<MappedFile>(path);
  const auto size = static_cast<int64_t>(stream_->bytes().size());
  token_bytes_ = format == ForeignFormat::kUint32 ? 4 : 2;
  int64_t stated = -1;
  if (format == ForeignFormat::kLlmC) {
    int32_t header[3] = {};
    if (size >= kLlmCHeaderBytes) std::memcpy(header, stream_->bytes().data(), sizeof header);
    if (header[0] != kLlmCGpt2 && header[0] != kLlmCLlama3) {
      throw ConfigError(path +
                        ": does not begin with the header of an llm.c token file; name its format with --format");
    }
    header_bytes_ = kLlmCHeaderBytes;
    token_bytes_ = header[0] == kLlmCLlama3 ? 4 : 2;
    stated = header[2];
  }
  const int64_t bytes = size - header_bytes_;
  if (bytes % token_bytes_ != 0 || (stated >= 0 && stated * token_bytes_ != bytes)) {
    throw ConfigError(path + ": holds " + std::to_string(bytes) + " bytes of ids, which are not " +
                      (stated >= 0 ? std::to_string(stated) + " ids" : "whole ids") + " of " +
                      std::to_string(token_bytes_) + " bytes; the file is cut short or of another format");
  }
  const int64_t count = bytes / token_bytes_;
  for (int64_t i = 0; document_end >= 0 && i + 1 < count; ++i) {
    if (stream_token(i) == document_end) begins_.push_back(i + 1);
  }
  if (count > 0) begins_.push_back(count);
}

int64_t ForeignTokens::stream_token(int64_t index) const {
  const char* const at = stream_->bytes().data() + header_bytes_ + index * token_bytes_;
  uint16_t narrow;
  uint32_t wide;
  if (token_bytes_ == 2) return std::memcpy(&narrow, at, sizeof narrow), narrow;
  return std::memcpy(&wide, at, sizeof wide), wide;
}

std::vector<int32_t> ForeignTokens::document(int64_t index) const {
  const int64_t first = begins_.at(static_cast<size_t>(index)), end = begins_.at(static_cast<size_t>(index) + 1);
  if (indexed_) return indexed_->read(first, end - first);
  std::vector<int32_t> tokens;
  for (int64_t i = first; i < end; ++i) {
    const int64_t token = stream_token(i);
    if (token >= vocab_size_) {
      throw ConfigError(stream_->path() + ": holds token " + std::to_string(token) + " at position " +
                        std::to_string(i) + ", outside --vocab-size " + std::to_string(vocab_size_) +
                        "; is the format right?");
    }
    tokens.push_back(static_cast<int32_t>(token));
  }
  return tokens;
}

}  // namespace mmoe
