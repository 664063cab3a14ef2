#include "train/loop/job_requirements.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include "sim/plan/trainable.h"
#include "sim/units/errors.h"

namespace mmoe {

void check_parallelism(const Job& job) {
  if (const auto why = why_layout_is_not_trained(job)) throw ConfigError(job.where + ": " + *why);
}

void check_trained_model(const Job& job) {
  if (const auto why = why_model_is_not_trained(job)) throw ConfigError(job.where + ": " + *why);
}

c10::Device training_device(const Job& job, int64_t local_rank) {
  check_trained_model(job);
  if (job.hardware.spec.is_cpu) return c10::Device(c10::kCPU);
  if (!at::hasCUDA()) {
    throw ConfigError(job.where + ": hardware.device = " + job.hardware.device +
                      " needs a GPU, but none is visible to CUDA here; run it where there is one, or set it to cpu");
  }
#ifndef MMOE_WITH_CUDA
  throw ConfigError(job.where + ": hardware.device = " + job.hardware.device +
                    " needs CUDA kernels, but this mmoe-train was built without; configure with -DMMOE_CUDA=ON");
#else
  const auto gpus = static_cast<int64_t>(at::detail::getCUDAHooks().deviceCount());
  if (local_rank >= gpus) {
    throw ConfigError(job.where + ": local rank " + std::to_string(local_rank) + " has no GPU of its own, of " +
                      std::to_string(gpus) + " that are visible here; start one rank for each GPU");
  }
  return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
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
