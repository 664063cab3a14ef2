#pragma once
// A program with subcommands: its help, and the one place where exceptions become exit codes.

#include <functional>
#include <string>
#include <vector>

#include "sim/cli/flags.h"

namespace mmoe {

struct Command {
  const char* name;
  const char* purpose;
  std::function<ExitCode(const std::vector<std::string>& arguments)> run;
};

// Runs `body`; a ConfigError becomes one line and kBadInput, a RunFailure or any other exception one line and
// kOurFault.
template <class Body>
ExitCode guarded(Body&& body) noexcept {
  try {
    return body();
  } catch (const ConfigError& error) {
    std::cerr << "mmoe: error: " << error.what() << '\n';
    return ExitCode::kBadInput;
  } catch (const RunFailure& error) {
    std::cerr << "mmoe: error: " << error.what() << '\n';
    return ExitCode::kOurFault;
  } catch (const std::exception& error) {
    std::cerr << "mmoe: internal error: " << error.what() << '\n';
    return ExitCode::kOurFault;
  }
}

// Runs the command that the first word names, under `guarded`. `program` is the name that --help shows.
ExitCode run_program(const std::string& program, const std::vector<Command>& commands,
                     const std::vector<std::string>& words);

}  // namespace mmoe
