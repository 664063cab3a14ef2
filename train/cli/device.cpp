#include "train/cli/device.h"

#include <ATen/Context.h>
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

c10::Device training_device(const Job& job) {
  if (job.hardware.spec.is_cpu) return c10::Device(c10::kCPU);
  if (!at::hasCUDA()) {
    throw ConfigError(job.where + ": hardware.device = " + job.hardware.device +
                      " needs a GPU, but none is visible to CUDA here; run it where there is one, or set it to cpu");
  }
  return c10::Device(c10::kCUDA, 0);
}

}  // namespace mmoe
