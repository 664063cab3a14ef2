#include <cstdio>

#include "sim/config/enum_names.h"
#include "sim/formulas/parameter_counts.h"
#include "train/cli/commands.h"
#include "train/interchange/import_model.h"

namespace mmoe {
namespace {

Upcycle upcycle_flags(const Flags& flags) {
  Upcycle upcycle;
  upcycle.num_experts = flags.get<int64_t>("experts");
  upcycle.split = flags.get<int64_t>("split");
  upcycle.noise = flags.get<double>("noise");
  upcycle.top_k = flags.get<int64_t>("top-k");
  upcycle.seed = flags.get<uint64_t>("seed");
  return upcycle;
}

}  // namespace

ExitCode import_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "import";
  command.purpose = "a Hugging Face model folder (safetensors) into a checkpoint";
  command.example = "mmoe import --from OLMoE-1B-7B --out olmoe";
  command.options.add_options()("from", po::value<std::string>()->required(),
                                "folder with config.json and model.safetensors, of Llama, Qwen2, Qwen3, Mixtral, "
                                "Qwen2-MoE, Qwen3-MoE or OLMoE")("out", po::value<std::string>()->required(),
                                                                 "checkpoint folder to write")(
      "experts", po::value<int64_t>(), "of a dense model: make MoE layers of this many experts from its feed-forwards")(
      "split", po::value<int64_t>()->default_value(1), "with --experts: slices that a feed-forward is cut into")(
      "noise", po::value<double>()->default_value(0),
      "with --experts: normal noise on them, over each tensor's spread")(
      "top-k", po::value<int64_t>()->default_value(2), "with --experts: active experts of the new model")(
      "seed", po::value<uint64_t>()->default_value(0), "with --experts: of routers and noise");
  command.takes_job_keys = true;
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  ImportOptions options;
  options.overrides = flags.overrides;
  if (flags.has("experts")) {
    options.upcycle = upcycle_flags(flags);
  } else {
    for (const char* flag : {"split", "noise", "top-k", "seed"}) {
      if (!flags.values[flag].defaulted()) throw ConfigError(std::string("--") + flag + " needs --experts");
    }
  }
  const Job job = import_model(flags.get("from"), flags.get("out"), options);
  const double parameters = parameter_counts(job.model).total();
  if (flags.json()) {
    std::cout
        << nlohmann::json{{"checkpoint", flags.get("out")}, {"parameters", parameters}, {"job", to_json(job)}}.dump(2)
        << '\n';
  } else {
    std::printf("%s: %.4g parameters, %s, %ld experts with %ld active\n", flags.get("out").c_str(), parameters,
                name_of(job.training.precision).c_str(), static_cast<long>(job.model.num_experts),
                static_cast<long>(job.model.top_k));
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
