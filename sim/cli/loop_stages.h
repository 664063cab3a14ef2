#pragma once
// What `mmoe loop` runs, in order, each stage a child process of our own programs.

#include <ostream>
#include <string>

#include "sim/cli/flags.h"
#include "sim/config/job.h"

namespace mmoe {

struct LoopSettings {
  Job job;
  std::string run;      // run folder
  std::string data;     // prefix of ready token files; empty: built from job.data.text
  std::string program;  // path of `mmoe`
};

// Throws ConfigError, naming the JSON key, when the loop cannot do this job (a dense model, no length, no text).
void check_loop_job(const LoopSettings& settings);

// Runs the stages that RUN/loop_state.json does not name as complete, with a line to `messages` for each, and leaves
// RUN/loop.json and RUN/report.html. A stage that fails ends the loop with its exit code; SIGINT and SIGTERM end it
// with 128 + the signal's number. The same call goes on where it stopped.
ExitCode run_loop(const LoopSettings& settings, std::ostream& messages);

}  // namespace mmoe
