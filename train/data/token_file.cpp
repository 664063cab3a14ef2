#include "train/data/token_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are read and written without swapping bytes");

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr uint64_t kVersion = 1;
constexpr size_t kTypeOffset = 17, kCountsOffset = 18, kHeaderSize = 34;
constexpr int64_t kUint16VocabLimit = 65500;

// Bytes of a token; 0 for what is no integer type.
int64_t token_size(TokenType type) {
  switch (type) {
    case TokenType::kUint8:
    case TokenType::kInt8:
      return 1;
    case TokenType::kInt16:
    case TokenType::kUint16:
      return 2;
    case TokenType::kInt32:
      return 4;
    case TokenType::kInt64:
      return 8;
  }
  return 0;
}

// Tokens outside int32 become -1, which no vocabulary holds.
template <class T>
void widen(const char* source, int64_t count, int32_t* tokens) {
  for (int64_t i = 0; i < count; ++i) {
    T token;
    std::memcpy(&token, source + i * static_cast<int64_t>(sizeof token), sizeof token);
    tokens[i] = std::in_range<int32_t>(token) ? static_cast<int32_t>(token) : -1;
  }
}

template <class T>
void write_value(AtomicFile& file, T value) {
  file.write(&value, sizeof value);
}

}  // namespace

TokenType token_type(int64_t vocab_size) {
  return vocab_size < kUint16VocabLimit ? TokenType::kUint16 : TokenType::kInt32;
}

TokenFileWriter::TokenFileWriter(const std::string& path, int64_t vocab_size)
    : type_(token_type(vocab_size)), bin_(path + ".bin"), idx_(path + ".idx") {}

void TokenFileWriter::add_document(std::span<const int32_t> tokens) {
  if (tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw ConfigError(bin_.path() + ": document " + std::to_string(lengths_.size()) + " has " +
                      std::to_string(tokens.size()) +
                      " tokens, more than the format's 2^31 - 1; cut the text into smaller documents with --separator");
  }
  if (type_ == TokenType::kUint16) {
    narrow_.assign(tokens.begin(), tokens.end());
    bin_.write(narrow_.data(), narrow_.size() * sizeof(uint16_t));
  } else {
    bin_.write(tokens.data(), tokens.size_bytes());
  }
  lengths_.push_back(static_cast<int32_t>(tokens.size()));
  num_tokens_ += static_cast<int64_t>(tokens.size());
}

void TokenFileWriter::sync() {
  bin_.sync();
  idx_.write(kMagic);
  write_value(idx_, kVersion);
  write_value(idx_, type_);
  write_value(idx_, static_cast<uint64_t>(lengths_.size()));
  write_value(idx_, static_cast<uint64_t>(lengths_.size() + 1));
  for (const int32_t length : lengths_) write_value(idx_, length);
  int64_t begin = 0;
  for (const int32_t length : lengths_) {
    write_value(idx_, begin);
    begin += length * token_size(type_);
  }
  for (int64_t document = 0; document <= num_documents(); ++document) write_value(idx_, document);
  idx_.sync();
}

void TokenFileWriter::publish() {
  bin_.publish();
  idx_.publish();
}

TokenFile::TokenFile(const std::string& path, int64_t vocab_size)
    : bin_(path + ".bin"), idx_(path + ".idx"), vocab_size_(vocab_size) {
  check_index();
}

template <class T>
T TokenFile::index_value(size_t offset) const {
  T value;
  std::memcpy(&value, idx_.bytes().data() + offset, sizeof value);
  return value;
}

void TokenFile::check_index() {
  const size_t size = idx_.bytes().size();
  const auto require = [&](bool holds, const std::string& what) {
    if (!holds)
      throw ConfigError(idx_.path() + ": " + what + "; the file is damaged or of another kind, build the data again");
  };
  require(size >= kHeaderSize, "holds " + std::to_string(size) + " bytes, fewer than the header of a token index");
  require(idx_.bytes().starts_with(kMagic), "does not begin with MMIDIDX");
  const auto version = index_value<uint64_t>(kMagic.size());
  require(version == kVersion, "has version " + std::to_string(version) + ", not 1");
  const auto code = index_value<uint8_t>(kTypeOffset);
  type_ = static_cast<TokenType>(code);
  require(token_size(type_) > 0, "has token type " + std::to_string(code) +
                                     ", none of 1 (uint8), 2 (int8), 3 (int16), 4 (int32), 5 (int64), 8 (uint16)");

  const auto sequences = index_value<uint64_t>(kCountsOffset), boundaries = index_value<uint64_t>(kCountsOffset + 8);
  const uint64_t room = size - kHeaderSize;
  require(
      sequences <= room / 12 && boundaries <= room / 8 && boundaries >= 1 && sequences * 12 + boundaries * 8 == room,
      "its size of " + std::to_string(size) + " bytes does not match its " + std::to_string(sequences) +
          " sequences and " + std::to_string(boundaries) + " document boundaries");
  num_sequences_ = static_cast<int64_t>(sequences);
  num_documents_ = static_cast<int64_t>(boundaries) - 1;

  int64_t begin = 0;  // bytes; at most num_sequences * 2^34, and these are bounded by the file's size
  for (int64_t i = 0; i < num_sequences_; ++i) {
    const auto length = index_value<int32_t>(kHeaderSize + 4 * i);
    const auto pointer = index_value<int64_t>(kHeaderSize + 4 * num_sequences_ + 8 * i);
    require(length >= 0 && pointer == begin, "sequence " + std::to_string(i) + " does not follow the one before it");
    begin += length * token_size(type_);
  }
  require(begin == static_cast<int64_t>(bin_.bytes().size()), "its sequences take " + std::to_string(begin) +
                                                                  " bytes, but " + bin_.path() + " holds " +
                                                                  std::to_string(bin_.bytes().size()));
  num_tokens_ = begin / token_size(type_);

  int64_t previous = 0;
  for (int64_t i = 0; i <= num_documents_; ++i) {
    const auto first = index_value<int64_t>(kHeaderSize + 12 * num_sequences_ + 8 * i);
    const bool at_end = i == num_documents_;
    require(
        (i == 0 ? first == 0 : first >= previous) && first <= num_sequences_ && (!at_end || first == num_sequences_),
        "document boundary " + std::to_string(i) + " is out of order");
    previous = first;
  }
}

int64_t TokenFile::document_begin(int64_t document) const {
  MMOE_CHECK(document >= 0 && document <= num_documents_) << path() << " document " << document;
  const auto sequence = index_value<int64_t>(kHeaderSize + 12 * num_sequences_ + 8 * document);
  if (sequence == num_sequences_) return num_tokens_;
  return index_value<int64_t>(kHeaderSize + 4 * num_sequences_ + 8 * sequence) / token_size(type_);
}

std::vector<int64_t> TokenFile::document_begins(int64_t first, int64_t count) const {
  int64_t low = 0, high = num_documents_;  // the first document that begins at `first` or behind it
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    document_begin(middle) < first ? low = middle + 1 : high = middle;
  }
  std::vector<int64_t> begins;
  for (; low < num_documents_; ++low) {
    const int64_t begin = document_begin(low);
    if (begin >= first + count) break;
    if (begin < document_begin(low + 1)) begins.push_back(begin);
  }
  return begins;
}

void TokenFile::read(int64_t first, int64_t count, int32_t* tokens) const {
  MMOE_CHECK(first >= 0 && count >= 0 && first <= num_tokens_ && count <= num_tokens_ - first)
      << path() << ": tokens " << first << " to " << first + count << " of " << num_tokens_;
  const char* source = bin_.bytes().data() + first * token_size(type_);
  switch (type_) {
    case TokenType::kUint8:
      widen<uint8_t>(source, count, tokens);
      break;
    case TokenType::kInt8:
      widen<int8_t>(source, count, tokens);
      break;
    case TokenType::kInt16:
      widen<int16_t>(source, count, tokens);
      break;
    case TokenType::kUint16:
      widen<uint16_t>(source, count, tokens);
      break;
    case TokenType::kInt64:
      widen<int64_t>(source, count, tokens);
      break;
    case TokenType::kInt32:
      if (count > 0) std::memcpy(tokens, source, static_cast<size_t>(count) * sizeof(int32_t));
  }
  uint32_t largest = 0;  // negative ids become the largest of all
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<uint32_t>(tokens[i]));
  if (largest >= static_cast<uint64_t>(vocab_size_)) {
    throw ConfigError(path() + ": holds token " + std::to_string(static_cast<int32_t>(largest)) +
                      " between positions " + std::to_string(first) + " and " + std::to_string(first + count) +
                      ", outside the vocabulary of " + std::to_string(vocab_size_) + "; build the data again");
  }
}

std::vector<int32_t> TokenFile::read(int64_t first, int64_t count) const {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  read(first, count, tokens.data());
  return tokens;
}

}  // namespace mmoe
