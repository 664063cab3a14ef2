#pragma once
// The command line of one command: Boost.Program_options with our rules (no guessing, one-line errors, --help with
// an example, --config FILE, and for commands that take a job every key of the job file as a flag).

#include <boost/program_options.hpp>
#include <iostream>
#include <string>
#include <vector>

#include "sim/config/job.h"
#include "sim/units/errors.h"

namespace mmoe {

namespace po = boost::program_options;

enum class ExitCode : int { kDone = 0, kOurFault = 1, kBadInput = 2, kAnswerIsNo = 3 };

// What a command accepts. `--help`, `--json` and `--config` are added to every command.
struct CommandLine {
  std::string name;     // "simulate"
  std::string purpose;  // one line, shown by --help and by `mmoe --help`
  std::string example;  // "mmoe simulate --job job.json"
  po::options_description options = po::options_description("Flags", 100, 50);
  std::vector<std::string> positional;  // options that words without a flag fill, in order; the last may be a list
  bool takes_job_keys = false;          // every job key is a flag too: --parallelism.tensor 4

  // Adds `--job FILE` (required) and the job's keys.
  void add_job();
};

// A parsed command line.
struct Flags {
  po::variables_map values;
  Overrides overrides;  // job keys given as flags
  bool help_printed = false;

  bool has(const std::string& name) const { return values.count(name) > 0 && !values[name].empty(); }
  template <class T = std::string>
  const T& get(const std::string& name) const {
    return values[name].as<T>();
  }
  bool json() const { return get<bool>("json"); }
  // The job that --job names, with the overrides.
  Job job(Layout layout = Layout::kFixed) const { return load_job(get("job"), overrides, layout); }
};

// Parses the words after the command's name. With --help prints the help to `out` and returns; a missing required
// flag is then no error. Throws ConfigError for unknown flags, stray words, bad values and missing required flags.
Flags parse(const CommandLine& command, const std::vector<std::string>& arguments, std::ostream& out = std::cout);

// The bytes of "8GiB", "8 GB", "512MiB" or a plain number; throws ConfigError naming `flag`.
Bytes parse_bytes(const std::string& text, const std::string& flag);

// The items of "1,2,6"; throws ConfigError naming `flag` where an item is no number.
std::vector<double> parse_numbers(const std::string& text, const std::string& flag);

}  // namespace mmoe
