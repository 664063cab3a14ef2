// mmoe presets: ready models, clusters, devices and jobs; `presets show NAME` prints one as a file to edit.

#include "profiles/presets/embedded.h"
#include "sim/cli/commands.h"
#include "sim/cli/table.h"
#include "sim/config/device_file.h"
#include "sim/config/json_text.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

struct Kind {
  const char* name;    // in --json
  const char* title;   // on screen
  const char* folder;  // below profiles/
  const char* use;
};
constexpr Kind kKinds[] = {
    {"models", "Models", "presets/models", R"("model": "NAME" in a job file)"},
    {"jobs", "Jobs", "presets/jobs", "mmoe simulate --job NAME"},
    {"clusters", "Clusters", "presets/clusters", R"("hardware": {"cluster": "NAME"})"},
    {"devices", "Devices", "hardware", R"("hardware": {"device": "NAME"})"},
};

nlohmann::json parsed(const Kind& kind, const std::string& name) {
  const auto text = embedded_file(std::string(kind.folder) + "/" + name + ".json");
  MMOE_CHECK(text.has_value()) << name;
  return parse_json(*text, name);
}

// What the list says about a device or another preset.
std::string description(const Kind& kind, const std::string& name) {
  const nlohmann::json file = parsed(kind, name);
  if (std::string(kind.name) != "devices") return file.value("note", "");
  const auto& peaks = file["peak_dense_tflop_per_s"];
  return significant(file["hbm_capacity_gib"].get<double>(), 3) + " GiB, " +
         significant(file["hbm_bandwidth_gb_per_s"].get<double>(), 4) + " GB/s, " +
         (peaks.contains("bf16") ? significant(peaks["bf16"].get<double>(), 4) + " TFLOP/s bf16"
                                 : significant(peaks["fp16"].get<double>(), 4) + " TFLOP/s fp16");
}

ExitCode show(const std::string& name) {
  std::vector<std::string> all;
  for (const Kind& kind : kKinds) {
    for (const std::string& known : embedded_names(kind.folder)) all.push_back(known);
    if (const auto text = embedded_file(std::string(kind.folder) + "/" + name + ".json")) {
      std::cout << *text;
      return ExitCode::kDone;
    }
  }
  const std::string guess = nearest(name, all);
  throw ConfigError("presets: no preset is called \"" + name + "\"" +
                    (guess.empty() ? ";" : "; did you mean " + guess + "?") + " mmoe presets lists them");
}

void print_list() {
  for (const Kind& kind : kKinds) {
    std::cout << kind.title << " (" << kind.use << ")\n";
    Table table{.header = {"", ""}, .rows = {}};
    if (std::string(kind.name) == "devices") table.add({"cpu", "the machine that the program runs on"});
    for (const std::string& name : embedded_names(kind.folder)) table.add({name, description(kind, name)});
    print_table(table, std::cout, "  ");
    std::cout << '\n';
  }
}

}  // namespace

ExitCode presets_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "presets";
  command.purpose =
      "lists ready models, jobs, clusters and devices; \"presets show NAME\" prints one as a file to edit";
  command.example = "mmoe presets show olmoe-elastic-h100 > job.json";
  command.positional = {"action", "name"};
  command.options.add_options()("action", po::value<std::string>()->value_name("list|show"), "list (default) or show")(
      "name", po::value<std::string>()->value_name("NAME"), "the preset to show");
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  const std::string action = flags.has("action") ? flags.get("action") : "list";
  if (action == "show") {
    if (!flags.has("name")) throw ConfigError("presets show: which one? mmoe presets lists them");
    return show(flags.get("name"));
  }
  if (action != "list" || flags.has("name")) {
    throw ConfigError("presets: unexpected word \"" + (action == "list" ? flags.get("name") : action) +
                      "\"; use mmoe presets or mmoe presets show NAME");
  }
  if (!flags.json()) {
    print_list();
    return ExitCode::kDone;
  }
  nlohmann::json list;
  for (const Kind& kind : kKinds) {
    list[kind.name] = nlohmann::json::array();
    for (const std::string& name : embedded_names(kind.folder)) {
      list[kind.name].push_back({{"name", name}, {"description", description(kind, name)}});
    }
  }
  std::cout << list.dump(2) << '\n';
  return ExitCode::kDone;
}

}  // namespace mmoe
