#include "sim/config/model_preset.h"

#include "profiles/presets/embedded.h"
#include "sim/config/sections.h"
#include "sim/units/nearest.h"

namespace mmoe {

std::string preset_text(const std::string& kind, const std::string& name, const std::string& where) {
  if (const auto text = embedded_file("presets/" + kind + "/" + name + ".json")) return std::string(*text);
  const std::vector<std::string> names = embedded_names("presets/" + kind);
  const std::string guess = nearest(name, names);
  throw ConfigError(where + " = \"" + name + "\" is unknown; " +
                    (guess.empty() ? "" : "did you mean \"" + guess + "\"? ") + "presets are " + join(names));
}

ModelConfig load_model_preset(const std::string& name, const std::string& where) {
  const std::string file = "preset " + name;
  const nlohmann::json json = parse_json(preset_text("models", name, where), file);
  JsonReader root(json, file, "", nullptr);
  root.find("note");
  root.find("source");
  ModelConfig model;
  JsonReader section = root.child("model");
  read_model_keys(section, model);
  section.finish();
  root.finish();
  return model;
}

}  // namespace mmoe
