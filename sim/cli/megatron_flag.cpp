#include "sim/cli/megatron_flag.h"

#include <iostream>

#include "profiles/store/atomic_file.h"
#include "sim/plan/megatron_script.h"

namespace mmoe {

void add_megatron(CommandLine& command) {
  command.options.add_options()("megatron-script", po::value<std::string>()->value_name("FILE"),
                                "write a launch script for Megatron-Core, and say what it cannot express")(
      "fixed-k", po::value<int>()->value_name("K"),
      "with --megatron-script: train a top-K specialist where the job draws its k, which Megatron-Core cannot");
}

void check_megatron(const Flags& flags) {
  if (flags.has("fixed-k") && !flags.has("megatron-script")) throw ConfigError("--fixed-k needs --megatron-script");
}

nlohmann::json write_megatron(const Flags& flags, const Job& job) {
  std::optional<int> fixed_k;
  if (flags.has("fixed-k")) fixed_k = flags.get<int>("fixed-k");
  const MegatronScript script = megatron_script(job, fixed_k);
  const std::string path = flags.get("megatron-script");
  write_file_atomically(path, script.text());
  nlohmann::json arguments = nlohmann::json::array(), unexpressed = nlohmann::json::array();
  for (const auto& [name, value] : script.arguments) arguments.push_back({name, value});
  for (const UnexpressedSetting& setting : script.unexpressed) {
    unexpressed.push_back({{"key", setting.key}, {"value", setting.value}, {"instead", setting.instead}});
    std::cerr << path << ": " << setting.key << " = " << setting.value
              << " has no word in Megatron-Core: " << setting.instead << '\n';
  }
  return {{"file", path}, {"arguments", arguments}, {"unexpressed", unexpressed}};
}

nlohmann::json write_best(const Flags& flags, const Job& job) {
  if (flags.has("out")) write_file_atomically(flags.get("out"), to_json(job).dump(2) + "\n");
  return flags.has("megatron-script") ? write_megatron(flags, job) : nlohmann::json();
}

}  // namespace mmoe
