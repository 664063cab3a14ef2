#include "train/checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

using Json = nlohmann::json;

struct DtypeRow {
  std::string_view name;
  std::int64_t bytes;
};
// Indexed by SafetensorsDtype.
constexpr std::array<DtypeRow, 15> kDtypes = {{{"BOOL", 1},
                                               {"U8", 1},
                                               {"I8", 1},
                                               {"F8_E5M2", 1},
                                               {"F8_E4M3", 1},
                                               {"I16", 2},
                                               {"U16", 2},
                                               {"F16", 2},
                                               {"BF16", 2},
                                               {"I32", 4},
                                               {"U32", 4},
                                               {"F32", 4},
                                               {"F64", 8},
                                               {"I64", 8},
                                               {"U64", 8}}};

constexpr const char* kDamaged = "; the file is damaged or not safetensors: copy or export it again";

// Builds a SafetensorsHeader from the parser's events and refuses the first one that does not belong.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(const std::string& file) : file_(file) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { return unexpected("null"); }
  bool boolean(bool /*value*/) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t /*value*/) override { return unexpected("a negative number"); }
  bool number_float(number_float_t /*value*/, const string_t& text) override {
    return unexpected(quote_for_message(text));
  }
  bool binary(binary_t& /*value*/) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return unexpected("a number");
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return unexpected(quote_for_message(std::to_string(value)));
    }
    std::vector<std::int64_t>& list = place_ == Place::kShape ? tensor().shape : offsets_;
    list.push_back(static_cast<std::int64_t>(value));
    if (place_ == Place::kOffsets && list.size() > 2) refuse("data_offsets must be two numbers, [begin, end]");
    if (place_ == Place::kShape && list.size() > kSafetensorsMaxDimensions) {
      refuse("shape has more than " + std::to_string(kSafetensorsMaxDimensions) + " dimensions");
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = value;
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") return unexpected("text");
    const std::optional<SafetensorsDtype> dtype = dtype_from_name(value);
    if (!dtype) {
      std::string known;
      for (const DtypeRow& row : kDtypes) known.append(known.empty() ? "" : " ").append(row.name);
      throw ConfigError(where() + "dtype " + quote_for_message(value) + " is not known; convert the tensor to one of " +
                        known);
    }
    tensor().dtype = *dtype;
    return true;
  }

  bool start_object(std::size_t /*size*/) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        if (key_ == "__metadata__") {
          place_ = Place::kMetadata;
        } else {
          place_ = Place::kTensor;
          header_.tensors.push_back({.name = key_, .shape = {}});
        }
        keys_.clear();
        return true;
      default:
        return unexpected("an object");
    }
  }

  bool key(string_t& value) override {
    std::unordered_set<std::string>& seen = place_ == Place::kTop ? names_ : keys_;
    if (!seen.insert(value).second) {
      if (place_ == Place::kTop && value == "__metadata__") refuse("__metadata__ appears twice");
      if (place_ == Place::kTop) refuse("the tensor " + quote_for_message(value) + " appears twice");
      refuse("the key " + quote_for_message(value) + " appears twice");
    }
    if (place_ == Place::kTensor && value != "dtype" && value != "shape" && value != "data_offsets") {
      refuse("unknown key " + quote_for_message(value) + " (known: dtype, shape, data_offsets)");
    }
    key_ = value;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) finish_tensor();
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool start_array(std::size_t /*size*/) override {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShape;
    } else if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsets;
      offsets_.clear();
    } else {
      return unexpected("a list");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets) {
      if (offsets_.size() != 2) refuse("data_offsets must be two numbers, [begin, end]");
      tensor().begin = offsets_[0];
      tensor().end = offsets_[1];
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    const bool text_is_at_fault = std::string_view(error.what()).find("UTF-8") != std::string_view::npos;
    throw ConfigError(file_ + ": its header is not valid " + (text_is_at_fault ? "UTF-8" : "JSON") +
                      " at header byte " + std::to_string(position) + kDamaged);
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  SafetensorsEntry& tensor() { return header_.tensors.back(); }
  std::string list_name() const { return place_ == Place::kShape ? "shape" : "data_offsets"; }

  // "file: tensor "name": ", as much of it as applies.
  std::string where() {
    switch (place_) {
      case Place::kTensor:
      case Place::kShape:
      case Place::kOffsets:
        return file_ + ": tensor " + quote_for_message(tensor().name) + ": ";
      case Place::kMetadata:
        return file_ + ": __metadata__: ";
      default:
        return file_ + ": ";
    }
  }

  [[noreturn]] void refuse(const std::string& what) { throw ConfigError(where() + what + kDamaged); }

  [[noreturn]] bool unexpected(const std::string& found) {
    switch (place_) {
      case Place::kShape:
      case Place::kOffsets:
        refuse(list_name() + " must hold whole numbers from 0 to 2^63 - 1 only, not " + found);
      case Place::kTensor:
        refuse(quote_for_message(key_) + " must be " + (key_ == "dtype" ? "text" : "a list of whole numbers") +
               ", not " + found);
      case Place::kMetadata:
        refuse("the value of " + quote_for_message(key_) + " must be text, not " + found);
      case Place::kTop:
        refuse((key_ == "__metadata__" ? key_ : "tensor " + quote_for_message(key_)) + " must be an object, not " +
               found);
      default:
        refuse("the header must be one JSON object, not " + found);
    }
  }

  void finish_tensor() {
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
      if (keys_.count(key) == 0) refuse(std::string("the key \"") + key + "\" is missing");
    }
    const SafetensorsEntry& entry = tensor();
    if (entry.begin > entry.end) {
      refuse("data_offsets [" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "] run backwards");
    }
    const std::optional<std::int64_t> bytes = tensor_bytes(entry.dtype, entry.shape);
    if (!bytes) refuse("the shape needs more than 2^63 - 1 bytes");
    if (*bytes != entry.end - entry.begin) {
      refuse("shape and dtype need " + std::to_string(*bytes) + " bytes, data_offsets hold " +
             std::to_string(entry.end - entry.begin));
    }
  }

  const std::string& file_;
  SafetensorsHeader header_;
  Place place_ = Place::kStart;
  std::string key_;
  std::unordered_set<std::string> names_;  // keys of the whole header
  std::unordered_set<std::string> keys_;   // keys of the object within
  std::vector<std::int64_t> offsets_;
};

// The tensors lie end to end from byte 0 to the end of the file.
void check_layout(const std::vector<SafetensorsEntry>& tensors, std::uint64_t data_start, std::uint64_t file_bytes,
                  const std::string& file) {
  std::int64_t end = 0;
  for (const SafetensorsEntry& tensor : tensors) {
    if (tensor.begin != end) {
      throw ConfigError(file + ": tensor " + quote_for_message(tensor.name) + ": begins at data byte " +
                        std::to_string(tensor.begin) + (tensor.begin < end ? ", inside" : ", behind a gap after") +
                        " the tensor that ends at " + std::to_string(end) + kDamaged);
    }
    end = tensor.end;
  }
  const std::uint64_t needed = data_start + static_cast<std::uint64_t>(end);  // below 2^63 + 10^8 + 8: no overflow
  if (file_bytes < needed) {
    throw ConfigError(file + ": is truncated: holds " + std::to_string(file_bytes) + " of " + std::to_string(needed) +
                      " bytes; copy it again or use an earlier checkpoint");
  }
  if (file_bytes > needed) {
    throw ConfigError(file + ": " + std::to_string(file_bytes - needed) + " bytes follow its last tensor" + kDamaged);
  }
}

}  // namespace

std::string_view dtype_name(SafetensorsDtype dtype) { return kDtypes.at(static_cast<std::size_t>(dtype)).name; }

std::optional<SafetensorsDtype> dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].name == name) return static_cast<SafetensorsDtype>(i);
  }
  return std::nullopt;
}

std::int64_t dtype_bytes(SafetensorsDtype dtype) { return kDtypes.at(static_cast<std::size_t>(dtype)).bytes; }

std::optional<std::int64_t> tensor_bytes(SafetensorsDtype dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t bytes = dtype_bytes(dtype);
  bool is_empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0) return std::nullopt;
    // Empty dimensions count as 1 here: the strides of [0, 2^40, 2^40] overflow too.
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes)) return std::nullopt;
    is_empty = is_empty || size == 0;
  }
  return is_empty ? 0 : bytes;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t file_bytes, const std::string& file) {
  if (json.empty() || json.front() != '{') {
    throw ConfigError(file + ": its header does not begin with '{'" + kDamaged);
  }
  // The parser would take a zero byte for the end of the text and never look at the rest.
  if (const std::size_t zero = json.find('\0'); zero != std::string_view::npos) {
    throw ConfigError(file + ": its header is not valid JSON at header byte " + std::to_string(zero + 1) + kDamaged);
  }
  HeaderReader reader(file);
  Json::sax_parse(json.data(), json.data() + json.size(), &reader);
  SafetensorsHeader header = reader.take();
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  check_layout(header.tensors, kSafetensorsLengthBytes + json.size(), file_bytes, file);
  return header;
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  std::string text = "{";
  if (!header.metadata.empty()) text += "\"__metadata__\":" + Json(header.metadata).dump();
  for (const SafetensorsEntry& tensor : header.tensors) {
    text += text.size() > 1 ? "," : "";
    text += Json(tensor.name).dump() + ":{\"dtype\":\"" + std::string(dtype_name(tensor.dtype)) +
            "\",\"shape\":" + Json(tensor.shape).dump() + ",\"data_offsets\":[" + std::to_string(tensor.begin) + "," +
            std::to_string(tensor.end) + "]}";
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

std::string quote_for_message(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  std::string result = "\"";
  std::size_t used = 0;
  while (used < text.size()) {
    const auto byte = static_cast<unsigned char>(text[used]);
    if (used >= kLongest && (byte & 0xC0) != 0x80) break;  // never inside a UTF-8 character
    if (byte < 0x20 || byte == 0x7F) {
      std::array<char, 8> escaped{};
      std::snprintf(escaped.data(), escaped.size(), "\\x%02x", static_cast<unsigned>(byte));
      result += escaped.data();
    } else {
      result += static_cast<char>(byte);
    }
    ++used;
  }
  return result + (used < text.size() ? "...\"" : "\"");
}

}  // namespace mmoe
