#include "train/data/data_flag.h"

#include <cmath>
#include <cstdlib>
#include <set>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

WeighedPrefix parse_value(const std::string& value) {
  WeighedPrefix result{value};
  const size_t colon = value.find(':');
  if (colon != std::string::npos && colon > 0) {
    const std::string number = value.substr(0, colon);
    char* end = nullptr;
    const double weight = std::strtod(number.c_str(), &end);
    if (*end == '\0') {
      if (!std::isfinite(weight) || weight <= 0) {
        throw ConfigError("--data " + value + ": the weight must be a number above 0, as in 0.7:data/web");
      }
      result = {value.substr(colon + 1), weight};
    }
  }
  if (result.prefix.empty())
    throw ConfigError("--data '" + value + "': names no token files; give PREFIX or WEIGHT:PREFIX");
  return result;
}

}  // namespace

std::vector<WeighedPrefix> parse_data_flag(const std::vector<std::string>& values) {
  std::vector<WeighedPrefix> prefixes;
  std::set<std::string> seen;
  for (const std::string& value : values) {
    prefixes.push_back(parse_value(value));
    const WeighedPrefix& last = prefixes.back();
    if (!seen.insert(last.prefix).second) {
      throw ConfigError("--data " + last.prefix + ": is named twice; name it once, with the sum of its weights");
    }
    if ((last.weight > 0) != (prefixes.front().weight > 0)) {
      throw ConfigError("--data " + value + ": give every data set a weight, as in 0.7:" + last.prefix + ", or none");
    }
  }
  return prefixes;
}

DataBlend::DataBlend(std::vector<WeighedPrefix> prefixes) : prefixes_(std::move(prefixes)) {
  MMOE_CHECK(!prefixes_.empty()) << "no data";
  for (const WeighedPrefix& entry : prefixes_) {
    datasets_.push_back(std::make_unique<Dataset>(entry.prefix));
    const DatasetInfo &first = dataset(0).info(), &info = datasets_.back()->info();
    if (info.tokenizer == first.tokenizer && info.vocab_size == first.vocab_size &&
        info.model_hash == first.model_hash) {
      continue;
    }
    throw ConfigError("--data " + entry.prefix + ": its tokenizer (" + info.tokenizer + ", " +
                      std::to_string(info.vocab_size) + " ids) is not that of " + prefixes_.front().prefix + " (" +
                      first.tokenizer + ", " + std::to_string(first.vocab_size) +
                      " ids); build both with the same --tokenizer-model");
  }
}

std::vector<DataSource> DataBlend::sources(Split split) const {
  std::vector<DataSource> sources;
  for (size_t i = 0; i < prefixes_.size(); ++i) sources.push_back({&dataset(i).tokens(split), prefixes_[i].weight});
  return sources;
}

}  // namespace mmoe
