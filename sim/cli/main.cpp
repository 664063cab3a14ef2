// mmoe COMMAND ...: planning commands run here; trainer commands run the program mmoe-train beside this one.

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "sim/cli/commands.h"
#include "sim/cli/program.h"

namespace mmoe {
namespace {

// Replaces this process by `mmoe-train COMMAND ARGUMENTS...`.
ExitCode run_trainer(const std::string& command, const std::vector<std::string>& arguments) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string trainer = error ? "mmoe-train" : (self.parent_path() / "mmoe-train").string();
  if (access(trainer.c_str(), X_OK) != 0) {
    throw ConfigError("mmoe " + command + " needs " + trainer + ", but mmoe-train was not built: make build");
  }
  std::vector<std::string> words = {trainer, command};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(trainer.c_str(), argv.data());
  throw std::runtime_error("cannot start " + trainer + ": " + std::strerror(errno));
}

Command trainer_command(const char* name, const char* purpose) {
  return {name, purpose, [name](const std::vector<std::string>& arguments) { return run_trainer(name, arguments); }};
}

std::vector<Command> commands() {
  return {
      {"simulate", "one job: memory, step time, cost, and their law over the draws of k", simulate_command},
      {"plan", "searches recompute, micro-batches and budgets; a ranked list, and why the rest failed", plan_command},
      {"budget", "tunes the activation budget for a memory limit or a saving", budget_command},
      {"compare", "jobs side by side", compare_command},
      {"presets", "lists ready models, clusters and jobs; prints one as a file to edit", presets_command},
      trainer_command("train", "trains a model; --resume continues bit for bit"),
      trainer_command("eval", "loss and perplexity at each k, or at a given allocation"),
      trainer_command("profile", "measures time and memory per layer, per k and per operation"),
      {"calibrate", "refits the model to profiles; error before and after", calibrate_command},
      trainer_command("allocate", "k per layer for a compute budget, verified on a split the search never saw"),
      {"validate", "predicted against measured for a table of training runs", validate_command},
      {"loop", "simulates, trains, profiles, calibrates and chooses k per layer, on one job", loop_command},
      {"study", "repeats a training comparison over seeds: budgets against what else saves memory", study_command},
      {"report", "one self-contained HTML page with figures from a run folder", report_command},
      trainer_command("generate", "text from a checkpoint, at a chosen k or allocation"),
      trainer_command("import", "a Hugging Face model folder (safetensors) into a checkpoint"),
      trainer_command("export", "a checkpoint into a folder that Hugging Face transformers opens"),
      trainer_command("data", "turns text into token files; inspects token files"),
  };
}

}  // namespace
}  // namespace mmoe

int main(int argc, char** argv) {
  return static_cast<int>(mmoe::run_program("mmoe", mmoe::commands(), {argv + 1, argv + argc}));
}
