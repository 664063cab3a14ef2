#include <cstdio>

#include "train/checkpoint/model_checkpoint.h"
#include "train/cli/commands.h"
#include "train/cli/k_flags.h"
#include "train/interchange/export_model.h"
#include "train/interchange/recipes.h"

namespace mmoe {
namespace {

at::ScalarType parse_type(const std::string& name) {
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp32") return at::kFloat;
  throw ConfigError("--dtype " + name + " is unknown; give bf16 or fp32");
}

}  // namespace

ExitCode export_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "export";
  command.purpose = "a checkpoint into a folder that Hugging Face transformers opens";
  command.example =
      "mmoe export --checkpoint run/checkpoints/step_1000 --out exported --allocation run/allocation.json";
  command.options.add_options()("checkpoint", po::value<std::string>()->required(), "checkpoint folder")(
      "out", po::value<std::string>()->required(), "new folder to write")(
      "dtype", po::value<std::string>(), "bf16 or fp32 (default: as the checkpoint computes)")(
      "k", po::value<std::string>(), "active experts of every layer (default: k_max)")(
      "allocation", po::value<std::string>(), "allocation.json: one k for each MoE layer")(
      "max-shard-bytes", po::value<std::string>()->default_value("5GB"), "size of one file, e.g. 2GiB")(
      "recipes", po::bool_switch(), "print how transformers, vLLM, SGLang and llama.cpp take a number of experts");
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  const Job job = checkpoint_job(flags.get("checkpoint"));
  ExportOptions options;
  options.type = flags.has("dtype")                           ? parse_type(flags.get("dtype"))
                 : job.training.precision == Precision::kBf16 ? at::kBFloat16
                                                              : at::kFloat;
  options.k_per_layer = chosen_k(flags, job);
  options.max_shard_bytes = static_cast<int64_t>(parse_bytes(flags.get("max-shard-bytes"), "--max-shard-bytes").value);
  if (options.max_shard_bytes < 1) throw ConfigError("--max-shard-bytes must be at least 1");
  const ExportSummary summary = export_model(flags.get("checkpoint"), flags.get("out"), options);
  if (flags.json()) {
    std::cout << nlohmann::json{{"folder", flags.get("out")},
                                {"model_type", summary.model_type},
                                {"num_experts_per_tok", summary.num_experts_per_tok},
                                {"k_per_layer", options.k_per_layer},
                                {"files", summary.num_files},
                                {"bytes", summary.bytes}}
                     .dump(2)
              << '\n';
    return ExitCode::kDone;
  }
  std::printf("%s: %s, %.4g bytes of weights in %ld file%s\n", flags.get("out").c_str(), summary.model_type.c_str(),
              static_cast<double>(summary.bytes), static_cast<long>(summary.num_files),
              summary.num_files == 1 ? "" : "s");
  if (flags.get<bool>("recipes") && summary.num_experts_per_tok > 0) {
    std::fputs(serving_recipes(flags.get("out"), summary.model_type, summary.num_experts_per_tok).c_str(), stdout);
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
