// mmoe loop: simulate, train, profile, calibrate, evaluate and choose k per layer, on one job.

#include <filesystem>
#include <fstream>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "sim/cli/loop_stages.h"
#include "sim/cli/loop_summary.h"
#include "sim/units/errors.h"

namespace mmoe {

ExitCode loop_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "loop";
  command.purpose = "simulates, trains, profiles, calibrates and chooses k per layer, on one job";
  command.example = "mmoe loop --job profiles/presets/jobs/demo.json --out build/demo";
  command.add_job();
  command.options.add_options()("out", po::value<std::string>()->required()->value_name("RUN"),
                                "run folder; with a folder of the same job the loop goes on where it stopped")(
      "data", po::value<std::string>()->value_name("PREFIX"),
      "ready token files of mmoe data build (default: made from the job's data.text)");
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;

  LoopSettings settings;
  settings.job = flags.job();
  settings.run = std::filesystem::absolute(flags.get("out")).lexically_normal();
  if (flags.has("data")) settings.data = std::filesystem::absolute(flags.get("data")).lexically_normal();
  settings.program = program_folder() + "/mmoe";
  const ExitCode code = run_loop(settings, std::cerr);

  std::ifstream file(settings.run + "/loop.json");
  const nlohmann::json summary = nlohmann::json::parse(file, nullptr, false);
  if (code != ExitCode::kDone || summary.is_discarded()) return code;
  if (flags.json()) {
    std::cout << summary.dump(2) << '\n';
  } else {
    print_summary(summary, std::cout);
    std::cout << "The page " << settings.run << "/report.html shows it in figures.\n";
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
