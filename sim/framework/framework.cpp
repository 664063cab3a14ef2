#include "sim/framework/framework.h"

#include <algorithm>
#include <array>

#include "sim/config/device_file.h"
#include "sim/config/enum_names.h"
#include "sim/config/json_reader.h"
#include "sim/config/model_preset.h"
#include "sim/units/errors.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

// Spread of a quantity for which a framework's file gives none: as wide as published analytical models err.
constexpr double kUnknownSpread = 0.15;
const std::string kMoePrefix = "moe_";

template <class Struct, std::size_t N>
void read_numbers(JsonReader& parent, const std::string& key,
                  const std::array<NumberDefinition<Struct>, N>& definitions, Struct& numbers) {
  JsonReader section = parent.child(key);
  for (const NumberDefinition<Struct>& definition : definitions) {
    section.read(std::string(definition.name), numbers.*definition.value, definition.low, definition.high);
  }
  section.finish();
}

void read_network(JsonReader& parent, NetworkParameters& network) {
  JsonReader section = parent.child("network");
  for (const NetworkParameterDefinition& definition : kNetworkParameters) {
    section.read(std::string(definition.name), network.*definition.value, definition.low, definition.high);
  }
  section.read("tree", network.tree);
  section.finish();
}

void read_sections(JsonReader& reader, Framework& framework) {
  read_numbers(reader, "memory", kMemoryConventionDefinitions, framework.memory);
  read_numbers(reader, "time", kTimeParameterDefinitions, framework.time);
  read_network(reader, framework.network);
  JsonReader spread = reader.child("spread");
  for (const std::string quantity : {"step_seconds", "peak_allocated_bytes", "peak_reserved_bytes", "static_bytes"}) {
    for (const std::string& name : {quantity, kMoePrefix + quantity}) {
      double value = 0;
      spread.read(name, value, 1e-4, 2);
      if (value <= 0) continue;
      framework.spread[name] = value;
      if (name == quantity) framework.spread.erase(kMoePrefix + quantity);  // a base's
    }
  }
  spread.finish();
}

// A list of some of the `known` words, maybe of none; absent leaves `words` as it is.
void read_words(JsonReader& reader, const std::string& key, const std::vector<std::string>& known,
                std::vector<std::string>& words) {
  reader.read(key, words);
  for (const std::string& word : words) {
    if (std::find(known.begin(), known.end(), word) != known.end()) continue;
    reader.fail(key, "names \"" + word + "\"; it may list " + join(known));
  }
}

// A list of words of an enum; absent leaves `values` as it is.
template <class E>
void read_words(JsonReader& reader, const std::string& key, std::vector<E>& values) {
  std::vector<std::string> words, known;
  for (const E value : values) words.push_back(name_of(value));
  for (const auto& entry : enum_names<E>()) known.emplace_back(entry.name);
  read_words(reader, key, known, words);
  values.clear();
  for (const std::string& word : words) {
    const auto place = std::find(known.begin(), known.end(), word);
    values.push_back(enum_names<E>()[static_cast<std::size_t>(place - known.begin())].value);
  }
  if (values.empty()) reader.fail(key, "must list at least one of " + join(known));
}

// What layouts it can run.
void read_layouts(JsonReader& reader, Framework& framework) {
  read_words(reader, "schedules", framework.schedules);
  read_words(reader, "context_kinds", framework.context_kinds);
  std::vector<std::string> degrees;
  for (const SplitDegree& degree : kSplitDegrees) degrees.emplace_back(degree.name);
  degrees.emplace_back("tensor_with_sequence");
  read_words(reader, "splits", degrees, framework.splits);
  reader.read("splits_tied_embeddings", framework.splits_tied_embeddings);
  reader.read("zero_stages", framework.zero_stages);
  const bool are_stages = std::all_of(framework.zero_stages.begin(), framework.zero_stages.end(),
                                      [](int64_t stage) { return stage >= 0 && stage <= 3; });
  if (framework.zero_stages.empty() || !are_stages) reader.fail("zero_stages", "must list at least one of 0, 1, 2, 3");
  read_words(reader, "recomputes", recompute_words(), framework.recomputes);
  read_words(reader, "dispatchers", framework.dispatchers);
  read_words(reader, "choices", {kChoices.begin(), kChoices.end()}, framework.choices);
}

nlohmann::json framework_json(const std::string& framework, const std::string& where) {
  if (names_file(framework)) return read_json_file(framework);
  return parse_json(preset_text("frameworks", framework, where), "framework " + framework);
}

void read_framework(const std::string& framework, const DeviceSpec& device, const std::string& where,
                    Framework& result) {
  const nlohmann::json json = framework_json(framework, where);
  JsonReader reader(json, framework, "", nullptr);
  std::string base;
  reader.read("based_on", base);
  if (!base.empty()) read_framework(base, device, framework + ": based_on", result);
  reader.read("name", result.name);
  reader.read("meaning", result.meaning);
  std::string cut = result.stage_cut == StageCut::kCost ? "cost" : "even";
  reader.read("stage_cut", cut);
  if (cut != "even" && cut != "cost") reader.fail("stage_cut", "must be \"even\" or \"cost\"");
  result.stage_cut = cut == "cost" ? StageCut::kCost : StageCut::kEven;
  reader.read("vocabulary_multiple", result.vocabulary_multiple, 1, 1 << 20);
  reader.read("splits_vocabulary", result.splits_vocabulary);
  reader.read("options", result.options);
  read_layouts(reader, result);
  read_sections(reader, result);
  JsonReader fitted = reader.child("fitted_to");
  for (const char* section : {"memory", "time"}) fitted.read(section, result.fitted_to[section]);
  fitted.finish();
  JsonReader devices = reader.child("devices");
  if (const nlohmann::json* listed = reader.find("devices")) {
    for (const auto& item : listed->items()) {
      JsonReader section = devices.child(item.key());
      if (item.key() != device.name) continue;
      read_sections(section, result);
      section.finish();
    }
  }
  reader.finish();
}

}  // namespace

double Framework::spread_of(const std::string& quantity, bool is_moe) const {
  auto found = is_moe ? spread.find(kMoePrefix + quantity) : spread.end();
  if (found == spread.end()) found = spread.find(quantity);
  return found == spread.end() ? kUnknownSpread : found->second;
}

void Framework::check_options(const std::vector<std::string>& chosen, const std::string& where) const {
  for (const std::string& option : chosen) {
    if (std::find(options.begin(), options.end(), option) != options.end()) continue;
    const std::string guess = nearest(option, options);
    throw ConfigError(where + ": training.options names \"" + option + "\", which " + name + " does not have; " +
                      (guess.empty() ? "" : "did you mean \"" + guess + "\"? ") +
                      (options.empty() ? "it has none" : "it has " + join(options)));
  }
}

Framework load_framework(const std::string& framework, const DeviceSpec& device, const std::string& where) {
  Framework result;
  read_framework(framework, device, where, result);
  return result;
}

}  // namespace mmoe
