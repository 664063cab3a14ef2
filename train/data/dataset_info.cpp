#include "train/data/dataset_info.h"

#include <nlohmann/json.hpp>

#include "sim/units/errors.h"
#include "train/data/mapped_file.h"

namespace mmoe {
namespace {

constexpr int kFormatVersion = 1;
constexpr int64_t kMaxVocabSize = int64_t{1} << 31;

}  // namespace

nlohmann::ordered_json to_json(const DatasetInfo& info) {
  nlohmann::ordered_json json = {
      {"format_version", kFormatVersion}, {"tokenizer", info.tokenizer}, {"vocab_size", info.vocab_size}};
  if (!info.model.empty()) {
    json["model"] = info.model;
    json["model_hash"] = info.model_hash;
  }
  json["separator"] = info.separator;
  json["seed"] = info.seed;
  for (const Split split : kSplits) {
    const std::string name(split_name(split));
    const SplitInfo& counts = info.split(split);
    json["split_fractions"][name] = info.split_fractions[static_cast<size_t>(split)];
    json["splits"][name] = {{"documents", counts.documents},
                            {"tokens", counts.tokens},
                            {"bytes", counts.bytes},
                            {"documents_in_train", counts.documents_in_train}};
  }
  json["unigram_entropy_bits_per_byte"] = nullptr;
  if (info.unigram_entropy_bits_per_byte) json["unigram_entropy_bits_per_byte"] = *info.unigram_entropy_bits_per_byte;
  json["text_files"] = info.text_files;
  json["text_bytes"] = info.text_bytes;
  json["text_hash"] = info.text_hash;
  return json;
}

DatasetInfo load_dataset_info(const std::string& prefix) {
  const std::string path = prefix + ".json";
  const std::string remedy = "; build the data again with `mmoe data build`";
  const MappedFile file(path);
  DatasetInfo info;
  try {
    const auto json = nlohmann::json::parse(file.bytes());
    if (const auto version = json.at("format_version").get<int64_t>(); version != kFormatVersion) {
      throw ConfigError(path + ": format_version is " + std::to_string(version) + ", this program reads 1" + remedy);
    }
    json.at("tokenizer").get_to(info.tokenizer);
    json.at("vocab_size").get_to(info.vocab_size);
    info.model = json.value("model", "");
    info.model_hash = json.value("model_hash", "");
    json.at("separator").get_to(info.separator);
    json.at("seed").get_to(info.seed);
    for (const Split split : kSplits) {
      const std::string name(split_name(split));
      const nlohmann::json& counts = json.at("splits").at(name);
      json.at("split_fractions").at(name).get_to(info.split_fractions[static_cast<size_t>(split)]);
      counts.at("documents").get_to(info.split(split).documents);
      counts.at("tokens").get_to(info.split(split).tokens);
      counts.at("bytes").get_to(info.split(split).bytes);
      counts.at("documents_in_train").get_to(info.split(split).documents_in_train);
    }
    if (const auto& entropy = json.at("unigram_entropy_bits_per_byte"); !entropy.is_null()) {
      info.unigram_entropy_bits_per_byte = entropy.get<double>();
    }
    json.at("text_files").get_to(info.text_files);
    json.at("text_bytes").get_to(info.text_bytes);
    json.at("text_hash").get_to(info.text_hash);
  } catch (const nlohmann::json::exception& error) {
    throw ConfigError(path + ": does not describe token files (" + error.what() + ")" + remedy);
  }
  if (info.vocab_size < 1 || info.vocab_size > kMaxVocabSize) {
    throw ConfigError(path + ": vocab_size is " + std::to_string(info.vocab_size) + ", not between 1 and 2^31" +
                      remedy);
  }
  if (info.model.find('/') != std::string::npos) {
    throw ConfigError(path + ": model is '" + info.model + "', which is no file name beside it" + remedy);
  }
  return info;
}

}  // namespace mmoe
