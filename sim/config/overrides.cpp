#include "sim/config/overrides.h"

#include <algorithm>
#include <filesystem>

#include "sim/config/device_file.h"
#include "sim/config/job_key.h"
#include "sim/config/sections.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

std::string absolute(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

// JSON where the text is a number, true, false, a list or an object; else the text itself.
nlohmann::json value_or_word(const std::string& text) {
  nlohmann::json value = nlohmann::json::parse(text, nullptr, false);
  return value.is_discarded() || value.is_null() || value.is_string() ? nlohmann::json(text) : value;
}

std::vector<std::string> items(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == ',') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

nlohmann::json value_of(const JobKey& key, const std::string& text) {
  switch (key.form) {
    case KeyForm::kWord:
      return text;
    case KeyForm::kPath:
      return absolute(text);
    case KeyForm::kWordOrPath:
      return names_file(text) ? absolute(text) : text;
    case KeyForm::kValue:
      return value_or_word(text);
    case KeyForm::kObject:
      // Broken JSON is better reported where it breaks than as an unknown word.
      return text.starts_with('{') ? parse_json(text, "--" + std::string(key.name)) : nlohmann::json(text);
    case KeyForm::kPathList: {
      nlohmann::json list = nlohmann::json::array();
      for (const std::string& word : items(text)) list.push_back(absolute(word));
      return list;
    }
    case KeyForm::kList: {
      if (text.starts_with('[')) return parse_json(text, "--" + std::string(key.name));
      if (text.find(',') == std::string::npos) return value_or_word(text);
      nlohmann::json list = nlohmann::json::array();
      for (const std::string& word : items(text)) list.push_back(value_or_word(word));
      return list;
    }
  }
  return text;
}

// The object that holds a key, made on the way; a preset's name becomes {"preset": name}, "auto" gives way.
nlohmann::json& parent(nlohmann::json& job, const std::string& dotted) {
  nlohmann::json* node = &job;
  std::size_t begin = 0;
  for (std::size_t dot = dotted.find('.'); dot != std::string::npos; begin = dot + 1, dot = dotted.find('.', begin)) {
    nlohmann::json& next = (*node)[dotted.substr(begin, dot - begin)];
    if (dotted.starts_with("model.") && next.is_string()) {
      next = nlohmann::json{{"preset", next}};
    } else if (!next.is_object()) {
      next = nlohmann::json::object();
    }
    node = &next;
  }
  return *node;
}

}  // namespace

void apply_overrides(nlohmann::json& job, const Overrides& overrides) {
  std::vector<std::pair<const JobKey*, std::string>> ordered;
  for (const auto& [name, text] : overrides) {
    const JobKey* key = find_job_key(name);
    if (key == nullptr) {
      const std::string guess = nearest(name, job_keys());
      throw ConfigError("--" + name + " is no key of the job file" +
                        (guess.empty() ? "" : "; did you mean --" + guess + "?"));
    }
    ordered.emplace_back(key, text);
  }
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  if (!job.is_object() && !ordered.empty()) return;  // reported when the job is read
  for (const auto& [key, text] : ordered) {
    const std::string name(key->name);
    if (name == "model.hf_config" || name == "model.preset") job.erase("model");
    nlohmann::json value = value_of(*key, text);
    if (name == "model" && value.is_string() && names_file(text)) value = {{"hf_config", absolute(text)}};
    parent(job, name)[name.substr(name.rfind('.') + 1)] = std::move(value);
  }
}

}  // namespace mmoe
