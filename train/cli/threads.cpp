#include "train/cli/threads.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>

namespace mmoe {

void add_threads(CommandLine& command) {
  command.options.add_options()("threads", po::value<int>(), "CPU threads (default: one a core)");
}

void use_threads(const Flags& flags, int64_t processes) {
  if (!flags.has("threads")) {
    if (processes > 1 && std::getenv("OMP_NUM_THREADS") == nullptr) {
      at::set_num_threads(std::max<int>(1, at::get_num_threads() / static_cast<int>(processes)));
    }
    return;
  }
  const int threads = flags.get<int>("threads");
  if (threads < 1 || threads > 1024) {
    throw ConfigError("--threads " + std::to_string(threads) + " is out of range; give 1 to 1024");
  }
  at::set_num_threads(threads);
}

}  // namespace mmoe
