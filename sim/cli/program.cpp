#include "sim/cli/program.h"

#include <algorithm>
#include <iomanip>

#include "sim/cli/version.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

void print_program_help(const std::string& program, const std::vector<Command>& commands, std::ostream& out) {
  out << program << ": plans, trains and tunes Matryoshka Mixture-of-Experts language models\n\n"
      << "Usage: " << program << " COMMAND [--flag value ...]\n\nCommands:\n";
  std::size_t width = 0;
  for (const Command& command : commands) width = std::max(width, std::string(command.name).size());
  for (const Command& command : commands) {
    out << "  " << std::left << std::setw(static_cast<int>(width) + 2) << command.name << command.purpose << '\n';
  }
  out << "\n"
      << program << " COMMAND --help shows the flags of a command and an example; " << program
      << " --version the version.\n"
      << "Exit codes: 0 done, 1 our fault, 2 bad input, 3 the answer is no (does not fit, a bound was passed).\n";
}

}  // namespace

ExitCode run_program(const std::string& program, const std::vector<Command>& commands,
                     const std::vector<std::string>& words) {
  if (words.empty()) {
    print_program_help(program, commands, std::cerr);
    return ExitCode::kBadInput;
  }
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_program_help(program, commands, std::cout);
    return ExitCode::kDone;
  }
  if (words[0] == "--version") {
    std::cout << program << ' ' << kVersion << '\n';
    return ExitCode::kDone;
  }
  const ExitCode code = guarded([&] {
    for (const Command& command : commands) {
      if (words[0] == command.name) return command.run({words.begin() + 1, words.end()});
    }
    std::vector<std::string> names;
    for (const Command& command : commands) names.emplace_back(command.name);
    const std::string guess = nearest(words[0], names);
    throw ConfigError("unknown command \"" + words[0] + "\"" +
                      (guess.empty() ? ";" : "; did you mean " + program + " " + guess + "?") + " see " + program +
                      " --help");
  });
  std::cout.flush();
  if (!std::cout) {
    std::cerr << program << ": error: standard output could not be written (is the disk full?)\n";
    return ExitCode::kOurFault;
  }
  return code;
}

}  // namespace mmoe
