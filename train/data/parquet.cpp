#include "train/data/parquet.h"

#include "sim/units/errors.h"

#ifdef MMOE_WITH_PARQUET
#include <arrow/array/array_binary.h>
#include <arrow/array/array_dict.h>
#include <arrow/chunked_array.h>
#include <arrow/io/memory.h>
#include <arrow/memory_pool.h>
#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#endif

namespace mmoe {

bool is_parquet(std::string_view path) { return path.ends_with(".parquet"); }

#ifdef MMOE_WITH_PARQUET
namespace {

[[noreturn]] void refuse(const std::string& path, std::string why) {
  throw ConfigError(path + ": is no Parquet file that can be read (" + why.substr(0, why.find('\n')) +
                    "); name one that is whole");
}

template <class T>
T value_or_refuse(arrow::Result<T> result, const std::string& path) {
  if (!result.ok()) refuse(path, result.status().message());
  return std::move(result).ValueUnsafe();
}

// The text of row `i`, of whichever type of text the array is.
std::string_view text_at(const arrow::Array& array, int64_t i, const std::string& path, const std::string& column) {
  switch (array.type_id()) {
    case arrow::Type::STRING:
      return static_cast<const arrow::StringArray&>(array).GetView(i);
    case arrow::Type::LARGE_STRING:
      return static_cast<const arrow::LargeStringArray&>(array).GetView(i);
    case arrow::Type::DICTIONARY: {
      const auto& encoded = static_cast<const arrow::DictionaryArray&>(array);
      return text_at(*encoded.dictionary(), encoded.GetValueIndex(i), path, column);
    }
    default:
      throw ConfigError(path + ": column \"" + column + "\" holds no text but " + array.type()->ToString() +
                        "; name the one that does with --json-key");
  }
}

std::shared_ptr<arrow::ChunkedArray> read_column(std::string_view bytes, const std::string& column,
                                                 const std::string& path) {
  const auto file = std::make_shared<arrow::io::BufferReader>(
      std::make_shared<arrow::Buffer>(reinterpret_cast<const uint8_t*>(bytes.data()), std::ssize(bytes)));
  const auto reader = value_or_refuse(parquet::arrow::OpenFile(file, arrow::default_memory_pool()), path);
  std::shared_ptr<arrow::Schema> schema;
  if (const arrow::Status status = reader->GetSchema(&schema); !status.ok()) refuse(path, status.message());
  const int index = schema->GetFieldIndex(column);
  if (index < 0) {
    std::string names;
    for (const std::string& name : schema->field_names()) names += (names.empty() ? "\"" : ", \"") + name + "\"";
    throw ConfigError(path + ": has no column \"" + column + "\" (but " + names +
                      "); name the one that holds the text with --json-key");
  }
  std::shared_ptr<arrow::ChunkedArray> values;
  if (const arrow::Status status = reader->ReadColumn(index, &values); !status.ok()) refuse(path, status.message());
  if (const arrow::Status status = values->ValidateFull(); !status.ok()) refuse(path, status.message());
  return values;
}

}  // namespace

std::vector<std::string> parquet_documents(std::string_view bytes, const std::string& column, const std::string& path) {
  std::vector<std::string> documents;
  std::shared_ptr<arrow::ChunkedArray> values;
  try {
    values = read_column(bytes, column, path);
  } catch (const ConfigError&) {
    throw;
  } catch (const std::exception& error) {
    refuse(path, error.what());
  }
  for (const std::shared_ptr<arrow::Array>& array : values->chunks()) {
    for (int64_t i = 0; i < array->length(); ++i) {
      if (array->IsNull(i)) continue;
      if (const std::string_view text = text_at(*array, i, path, column); !text.empty()) documents.emplace_back(text);
    }
  }
  return documents;
}
#else
std::vector<std::string> parquet_documents(std::string_view, const std::string&, const std::string& path) {
  throw ConfigError(path + ": this build reads no Parquet (MMOE_ARROW_ROOT named no pyarrow); convert it with " +
                    "`python -m mmoe.tokenize --text " + path + " --out documents.jsonl`");
}
#endif

}  // namespace mmoe
