#include "train/cli/commands.h"

#include "train/data/cli.h"

namespace mmoe {

std::vector<Command> trainer_commands() {
  return {
      {"train", "trains a model; --resume continues bit for bit", train_command},
      {"eval", "loss and perplexity at each k, or at a given allocation", eval_command},
      {"profile", "measures time and memory per layer, per k and per operation", profile_command},
      {"allocate", "k per layer for a compute budget, verified on a split the search never saw", allocate_command},
      {"generate", "text from a checkpoint, at a chosen k or allocation", generate_command},
      {"import", "a Hugging Face model folder (safetensors) into a checkpoint", import_command},
      {"export", "a checkpoint into a folder that Hugging Face transformers opens", export_command},
      {"data", "turns text into token files; inspects token files",
       [](const std::vector<std::string>& arguments) { return static_cast<ExitCode>(data_command(arguments)); }},
  };
}

}  // namespace mmoe
