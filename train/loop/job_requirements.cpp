#include "train/loop/job_requirements.h"

#include <ATen/Context.h>

#include "sim/units/errors.h"

namespace mmoe {

c10::Device training_device(const Job& job) {
  if (job.hardware.spec.is_cpu) return c10::Device(c10::kCPU);
  if (!at::hasCUDA()) {
    throw ConfigError(job.where + ": hardware.device = " + job.hardware.device +
                      " needs a GPU, but none is visible to CUDA here; run it where there is one, or set it to cpu");
  }
#ifndef MMOE_WITH_CUDA
  throw ConfigError(job.where + ": hardware.device = " + job.hardware.device +
                    " needs CUDA kernels, but this mmoe-train was built without; configure with -DMMOE_CUDA=ON");
#else
  return c10::Device(c10::kCUDA, 0);
#endif
}

void check_vocabulary(const Job& job, const Dataset& data, const std::string& prefix) {
  if (data.info().vocab_size <= job.model.vocab_size) return;
  throw ConfigError(prefix + ".json: its vocabulary of " + std::to_string(data.info().vocab_size) + " does not fit " +
                    job.where + ": model.vocab_size = " + std::to_string(job.model.vocab_size) +
                    "; build the data with --vocab-size " + std::to_string(job.model.vocab_size) +
                    " or raise model.vocab_size");
}

}  // namespace mmoe
