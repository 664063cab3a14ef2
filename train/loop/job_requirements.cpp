#include "train/loop/job_requirements.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include "sim/config/enum_names.h"
#include "sim/config/json_text.h"
#include "sim/units/errors.h"

namespace mmoe {

namespace {

// What the simulator can plan and this trainer cannot run.
void check_model(const Job& job) {
  const ModelConfig plain;
  const auto refuse = [&](const char* key, const std::string& value, const std::string& advice) {
    throw ConfigError(job.where + ": " + key + " = " + value + " cannot be trained here; " + advice);
  };
  const ModelConfig& model = job.model;
  if (model.attention != plain.attention) refuse("model.attention", name_of(model.attention), "use grouped");
  if (model.activation != plain.activation) refuse("model.activation", name_of(model.activation), "use swiglu");
  if (model.norm != plain.norm) refuse("model.norm", name_of(model.norm), "use rms");
  if (model.position != plain.position) refuse("model.position", name_of(model.position), "use rotary");
  if (model.linear_bias) refuse("model.linear_bias", "true", "use false");
  if (model.num_mtp_layers > 0) refuse("model.num_mtp_layers", std::to_string(model.num_mtp_layers), "use 0");
  if (model.v_head_dim != model.head_dim) {
    refuse("model.v_head_dim", std::to_string(model.v_head_dim), "use model.head_dim");
  }
  const TrainingConfig& training = job.training;
  if (training.framework != TrainingConfig().framework) {
    refuse("training.framework", training.framework, "it names whose runs are predicted; this trainer is mmoe");
  }
  if (training.hidden_dropout > 0) refuse("training.hidden_dropout", shown(training.hidden_dropout), "use 0");
  if (training.attention_dropout > 0) refuse("training.attention_dropout", shown(training.attention_dropout), "use 0");
  if (training.attention_backend != AttentionBackend::kFlash)
    refuse("training.attention_backend", "unfused", "use flash");
  if (training.offload != "none") refuse("training.offload", training.offload, "use none");
  for (const std::string& module : training.recompute.modules) {
    if (module != "attention" && module != "moe")
      refuse("training.recompute", module, "use none, full, attention or moe");
  }
  if (training.recompute.num_layers > 0) {
    refuse("training.recompute_num_layers", std::to_string(training.recompute.num_layers), "use 0: all layers");
  }
}

}  // namespace

void check_parallelism(const Job& job) {
  const ParallelismConfig& layout = job.parallelism;
  const auto refuse = [&](const std::string& key, const std::string& value, const char* advice) {
    throw ConfigError(job.where + ": " + key + " = " + value + " can be simulated but not trained yet; " + advice);
  };
  const auto only_one = [&](const char* key, int64_t degree) {
    if (degree > 1) refuse(std::string("parallelism.") + key, std::to_string(degree), "set it to 1");
  };
  only_one("tensor", layout.tensor);
  only_one("context", layout.context);
  only_one("expert_tensor", layout.expert_tensor);
  if (layout.zero_stage > 1) refuse("parallelism.zero_stage", std::to_string(layout.zero_stage), "set it to 0 or 1");
  if (layout.zero_group > 0) refuse("parallelism.zero_group", std::to_string(layout.zero_group), "leave it out");
  if (layout.schedule == PipelineSchedule::kZeroBubble) {
    refuse("parallelism.schedule", name_of(layout.schedule), "set it to 1f1b or interleaved");
  }
  if (layout.pipeline > 1 && job.model.tie_embeddings) {
    refuse("model.tie_embeddings", "true", "set it to false, or parallelism.pipeline to 1");
  }
}

c10::Device training_device(const Job& job, int64_t local_rank) {
  check_model(job);
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
