#include "train/cli/threads.h"

#include <ATen/Parallel.h>

namespace mmoe {

void add_threads(CommandLine& command) {
  command.options.add_options()("threads", po::value<int>(), "CPU threads (default: one a core)");
}

void use_threads(const Flags& flags) {
  if (!flags.has("threads")) return;
  const int threads = flags.get<int>("threads");
  if (threads < 1 || threads > 1024) {
    throw ConfigError("--threads " + std::to_string(threads) + " is out of range; give 1 to 1024");
  }
  at::set_num_threads(threads);
}

}  // namespace mmoe
