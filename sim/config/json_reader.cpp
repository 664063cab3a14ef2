#include "sim/config/json_reader.h"

#include <cmath>

#include "sim/config/job_key.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

const nlohmann::json& empty_object() {
  static const nlohmann::json kEmpty = nlohmann::json::object();
  return kEmpty;
}

const char* kind_of(const nlohmann::json& value) {
  switch (value.type()) {
    case nlohmann::json::value_t::null:
      return "null";
    case nlohmann::json::value_t::object:
      return "an object";
    case nlohmann::json::value_t::array:
      return "a list";
    case nlohmann::json::value_t::string:
      return "text";
    case nlohmann::json::value_t::boolean:
      return "a truth value";
    default:
      return "a number";
  }
}

std::string number_text(double value) { return shown(nlohmann::json(value)); }

}  // namespace

JsonReader::JsonReader(const nlohmann::json& object, std::string where, std::string path, std::set<std::string>* given)
    : object_(object), where_(std::move(where)), path_(std::move(path)), given_(given) {
  if (object_.is_object()) return;
  throw ConfigError(where_ + ": " + (path_.empty() ? "the file" : path_ + " = " + shown(object_)) + " is " +
                    kind_of(object_) + "; it must be an object {...}");
}

const nlohmann::json* JsonReader::find(const std::string& key) {
  known_.insert(key);
  const auto found = object_.find(key);
  if (found == object_.end()) return nullptr;
  if (given_ != nullptr && *found != "auto") given_->insert(dotted(key));
  return &*found;
}

const nlohmann::json& JsonReader::require(const std::string& key, const std::string& advice) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) throw ConfigError(where_ + ": " + dotted(key) + " is missing; " + advice);
  return *value;
}

const nlohmann::json* JsonReader::value_of(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr || *value != "auto") return value;
  const JobKey* job_key = find_job_key(dotted(key));
  if (job_key == nullptr || !job_key->may_be_auto) fail(key, "cannot be chosen automatically; give a value");
  return nullptr;
}

void JsonReader::fail(const std::string& key, const std::string& what) const {
  const auto found = object_.find(key);
  throw ConfigError(where_ + ": " + dotted(key) + (found == object_.end() ? "" : " = " + shown(*found)) + " " + what);
}

void JsonReader::read(const std::string& key, int64_t& value, int64_t least, int64_t most) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return;
  if (!found->is_number()) fail(key, std::string("is ") + kind_of(*found) + "; it must be a whole number");
  const double number = found->get<double>();
  if (std::floor(number) != number) fail(key, "must be a whole number");
  if (number < static_cast<double>(least)) fail(key, "is too small; it must be at least " + std::to_string(least));
  if (number > static_cast<double>(most)) fail(key, "is too large; it must be at most " + std::to_string(most));
  value = found->is_number_float() ? static_cast<int64_t>(number) : found->get<int64_t>();
}

void JsonReader::read(const std::string& key, uint64_t& value) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return;
  if (!found->is_number_unsigned()) fail(key, "must be a whole number from 0 to 18446744073709551615");
  value = found->get<uint64_t>();
}

void JsonReader::read(const std::string& key, double& value, double least, double most) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return;
  if (!found->is_number()) fail(key, std::string("is ") + kind_of(*found) + "; it must be a number");
  const double number = found->get<double>();
  if (!(number >= least)) fail(key, "is too small; it must be at least " + number_text(least));
  if (!(number <= most)) fail(key, "is too large; it must be at most " + number_text(most));
  value = number;
}

void JsonReader::read(const std::string& key, bool& value) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return;
  if (!found->is_boolean()) fail(key, std::string("is ") + kind_of(*found) + "; it must be true or false");
  value = found->get<bool>();
}

void JsonReader::read(const std::string& key, std::string& value) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return;
  if (!found->is_string()) fail(key, std::string("is ") + kind_of(*found) + "; it must be text");
  value = found->get<std::string>();
}

void JsonReader::read(const std::string& key, std::vector<int64_t>& value) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return;
  if (!found->is_array()) fail(key, std::string("is ") + kind_of(*found) + "; it must be a list of whole numbers");
  value.clear();
  for (const auto& item : *found) {
    if (!item.is_number_integer() || item > INT32_MAX || item < INT32_MIN) {
      fail(key, "holds " + shown(item) + "; it must be a list of whole numbers");
    }
    value.push_back(item.get<int64_t>());
  }
}

void JsonReader::read(const std::string& key, std::vector<double>& value) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return;
  if (!found->is_array()) fail(key, std::string("is ") + kind_of(*found) + "; it must be a list of numbers");
  value.clear();
  for (const auto& item : *found) {
    if (!item.is_number()) fail(key, "holds " + shown(item) + "; it must be a list of numbers");
    value.push_back(item.get<double>());
  }
}

void JsonReader::read(const std::string& key, std::vector<std::string>& value) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return;
  if (found->is_string()) {
    value = {found->get<std::string>()};
    return;
  }
  if (!found->is_array()) fail(key, std::string("is ") + kind_of(*found) + "; it must be text or a list of texts");
  value.clear();
  for (const auto& item : *found) {
    if (!item.is_string()) fail(key, "holds " + shown(item) + "; it must be text or a list of texts");
    value.push_back(item.get<std::string>());
  }
}

int JsonReader::read_word(const std::string& key, const std::vector<std::string>& words) {
  const nlohmann::json* found = value_of(key);
  if (found == nullptr) return -1;
  if (!found->is_string()) fail(key, std::string("is ") + kind_of(*found) + "; use one of " + join(words));
  const std::string word = found->get<std::string>();
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == word) return static_cast<int>(i);
  }
  const std::string guess = nearest(word, words);
  fail(key, "is unknown; " + (guess.empty() ? "" : "did you mean \"" + guess + "\"? ") + "use one of " + join(words));
}

JsonReader JsonReader::child(const std::string& key) {
  known_.insert(key);
  const auto found = object_.find(key);
  return JsonReader(found == object_.end() ? empty_object() : *found, where_, dotted(key), given_);
}

void JsonReader::finish() const {
  for (const auto& [key, value] : object_.items()) {
    if (known_.count(key) > 0) continue;
    const std::string guess = nearest(key, {known_.begin(), known_.end()});
    std::string other;  // the same key in another section of the job file
    for (const JobKey& job_key : job_key_table()) {
      if (given_ != nullptr && job_key.name.ends_with("." + key)) other = job_key.name;
    }
    std::string advice = "known here: " + join({known_.begin(), known_.end()});
    if (!guess.empty()) advice = "did you mean " + dotted(guess) + "?";
    if (!other.empty()) advice = "did you mean " + other + "?";
    throw ConfigError(where_ + ": unknown key " + dotted(key) + "; " + advice);
  }
}

}  // namespace mmoe
