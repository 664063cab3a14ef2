#include <unistd.h>

#include "train/cli/commands.h"
#include "train/cli/threads.h"
#include "train/profiling/profiler.h"

namespace mmoe {

ExitCode profile_command(const std::vector<std::string>& arguments) {
  CommandLine command;
  command.name = "profile";
  command.purpose = "measures time and memory per layer, per k and per operation; writes a profile";
  command.example = "mmoe profile --job job.json --out profile.json";
  command.add_job();
  command.options.add_options()("out", po::value<std::string>()->required(), "profile file to write")(
      "repetitions", po::value<int>()->default_value(7), "timed runs of everything, after two to warm up")(
      "no-probes", po::bool_switch(), "measure the job alone, not also jobs of other shapes");
  add_threads(command);
  const Flags flags = parse(command, arguments);
  if (flags.help_printed) return ExitCode::kDone;
  use_threads(flags);
  ProfileOptions options;
  options.repetitions = flags.get<int>("repetitions");
  if (options.repetitions < 1 || options.repetitions > 1000) {
    throw ConfigError("--repetitions " + std::to_string(options.repetitions) + " is out of range; give 1 to 1000");
  }
  options.probes = !flags.get<bool>("no-probes");
  options.progress = [](const std::string& line) { std::cerr << "profile: " << line << '\n'; };
  const Profile profile = profile_job(flags.job(), options);
  save_profile(profile, flags.get("out"));
  if (flags.json()) {
    std::cout << to_json(profile).dump(2) << '\n';
  } else {
    std::cout << "wrote " << flags.get("out") << ": " << profile.operations.size() << " operation records and "
              << profile.steps.size() << " step records of " << profile.jobs.size() << " jobs\n";
  }
  return ExitCode::kDone;
}

}  // namespace mmoe
