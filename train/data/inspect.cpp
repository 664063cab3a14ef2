#include "train/data/inspect.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>

#include "sim/units/errors.h"
#include "train/data/dataset.h"
#include "train/data/documents.h"
#include "train/data/statistics.h"

namespace mmoe {
namespace {

std::vector<int64_t> count_tokens(const TokenFile& tokens, int64_t vocab_size) {
  constexpr int64_t kBlock = 1 << 16;
  std::vector<int64_t> counts(static_cast<size_t>(vocab_size));
  for (int64_t first = 0; first < tokens.num_tokens(); first += kBlock) {
    for (const int32_t token : tokens.read(first, std::min(kBlock, tokens.num_tokens() - first))) {
      ++counts[static_cast<size_t>(token)];
    }
  }
  return counts;
}

}  // namespace

Inspection inspect_dataset(const std::string& prefix, int64_t num_first_tokens) {
  const Dataset dataset(prefix);
  Inspection inspection{.prefix = prefix, .info = dataset.info(), .first_tokens = {}};
  for (const Split split : kSplits) {
    const TokenFile& tokens = dataset.tokens(split);
    const std::vector<int64_t> counts = count_tokens(tokens, dataset.info().vocab_size);
    int64_t bytes = 0;
    for (size_t id = 0; id < counts.size(); ++id) {
      bytes += counts[id] * static_cast<int64_t>(dataset.tokenizer().token_text(static_cast<int32_t>(id)).size());
    }
    if (bytes != dataset.info().split(split).bytes) {
      throw ConfigError(tokens.path() + ": its tokens stand for " + std::to_string(bytes) + " bytes of text, but " +
                        prefix + ".json states " + std::to_string(dataset.info().split(split).bytes) +
                        "; the files are from different builds, build the data again");
    }
    if (split == Split::kTrain)
      inspection.info.unigram_entropy_bits_per_byte = unigram_entropy_bits_per_byte(counts, bytes);
    for (const int32_t id : tokens.read(0, std::min(num_first_tokens, tokens.num_tokens()))) {
      inspection.first_tokens[static_cast<size_t>(split)].push_back(
          {id, escape_text(dataset.tokenizer().token_text(id))});
    }
  }
  return inspection;
}

nlohmann::ordered_json to_json(const Inspection& inspection) {
  nlohmann::ordered_json json = to_json(inspection.info);
  json["prefix"] = inspection.prefix;
  for (const Split split : kSplits) {
    auto& first = json["splits"][std::string(split_name(split))]["first_tokens"] = nlohmann::ordered_json::array();
    for (const TokenSample& token : inspection.first_tokens[static_cast<size_t>(split)]) {
      first.push_back({{"id", token.id}, {"text", token.text}});
    }
  }
  return json;
}

void print_dataset_info(const DatasetInfo& info, const std::string& prefix, std::ostream& out) {
  char line[256];
  out << prefix << ": " << info.tokenizer << ", " << info.vocab_size << " ids";
  if (!info.model.empty()) out << " (" << info.model << ")";
  out << "\n\nsplit    documents        tokens         bytes  bytes/token  also in train\n";
  for (const Split split : kSplits) {
    const SplitInfo& counts = info.split(split);
    const double ratio = counts.tokens > 0 ? static_cast<double>(counts.bytes) / static_cast<double>(counts.tokens) : 0;
    std::snprintf(line, sizeof line, "%-7s %10lld %13lld %13lld %12.3f", std::string(split_name(split)).c_str(),
                  static_cast<long long>(counts.documents), static_cast<long long>(counts.tokens),
                  static_cast<long long>(counts.bytes), ratio);
    out << line;
    if (split != Split::kTrain) out << "  " << counts.documents_in_train << " documents";
    out << '\n';
  }
  if (info.unigram_entropy_bits_per_byte) {
    std::snprintf(line, sizeof line,
                  "\nunigram entropy of train: %.4f bits/byte (the loss of a model that ignores context)\n",
                  *info.unigram_entropy_bits_per_byte);
    out << line;
  }
}

void print(const Inspection& inspection, std::ostream& out) {
  print_dataset_info(inspection.info, inspection.prefix, out);
  out << "\nfirst tokens, each `id text`\n";
  for (const Split split : kSplits) {
    out << split_name(split) << ':';
    for (const TokenSample& token : inspection.first_tokens[static_cast<size_t>(split)]) {
      out << "  " << token.id << " '" << token.text << "'";
    }
    out << '\n';
  }
}

}  // namespace mmoe
