#include "sim/plan/trainable.h"

#include "sim/config/enum_names.h"
#include "sim/config/json_text.h"
#include "sim/memory/layer_memory.h"

namespace mmoe {
namespace {

// On GPUs the experts' products are LibTorch's _grouped_mm, whose matrices have rows of whole 16 bytes: elements in a
// row are a multiple of this. 1 where nothing is asked.
int64_t expert_row_multiple(const Job& job) {
  const bool grouped = !job.hardware.spec.is_cpu && job.training.operations == OperationSet::kKernels;
  return grouped && job.model.num_moe_layers() > 0 ? 16 / static_cast<int64_t>(compute_bytes(job.training.precision))
                                                   : 1;
}

std::string use_multiple(int64_t multiple) {
  return "use a multiple of " + std::to_string(multiple) +
         ": a GPU's grouped products take rows of experts of whole 16 bytes";
}

}  // namespace

std::optional<std::string> why_model_is_not_trained(const Job& job) {
  const ModelConfig plain;
  const auto refuse = [](const char* key, const std::string& value, const std::string& advice) {
    return std::string(key) + " = " + value + " cannot be trained here; " + advice;
  };
  const ModelConfig& model = job.model;
  if (model.attention != plain.attention) return refuse("model.attention", name_of(model.attention), "use grouped");
  if (model.activation != plain.activation) return refuse("model.activation", name_of(model.activation), "use swiglu");
  if (model.norm != plain.norm) return refuse("model.norm", name_of(model.norm), "use rms");
  if (model.position != plain.position) return refuse("model.position", name_of(model.position), "use rotary");
  if (model.linear_bias) return refuse("model.linear_bias", "true", "use false");
  if (model.num_mtp_layers > 0) return refuse("model.num_mtp_layers", std::to_string(model.num_mtp_layers), "use 0");
  if (model.limits_groups()) return refuse("model.topk_group", std::to_string(model.topk_group), "use model.n_group");
  if (model.v_head_dim != model.head_dim) {
    return refuse("model.v_head_dim", std::to_string(model.v_head_dim), "use model.head_dim");
  }
  const int64_t multiple = expert_row_multiple(job);
  if (model.hidden_size % multiple != 0) {
    return refuse("model.hidden_size", std::to_string(model.hidden_size), use_multiple(multiple));
  }
  const TrainingConfig& training = job.training;
  if (training.framework != TrainingConfig().framework) {
    return refuse("training.framework", training.framework, "it names whose runs are predicted; this trainer is mmoe");
  }
  if (training.hidden_dropout > 0) return refuse("training.hidden_dropout", shown(training.hidden_dropout), "use 0");
  if (training.attention_dropout > 0) {
    return refuse("training.attention_dropout", shown(training.attention_dropout), "use 0");
  }
  if (training.attention_backend != AttentionBackend::kFlash) {
    return refuse("training.attention_backend", "unfused", "use flash");
  }
  if (training.offload != Offload::kNone) return refuse("training.offload", name_of(training.offload), "use none");
  for (const std::string& module : training.recompute.modules) {
    if (module == "attention" || module == "moe") continue;
    return refuse("training.recompute", module, "use none, full, attention or moe");
  }
  if (training.recompute.num_layers > 0) {
    return refuse("training.recompute_num_layers", std::to_string(training.recompute.num_layers), "use 0: all layers");
  }
  return std::nullopt;
}

std::optional<std::string> why_layout_is_not_trained(const Job& job) {
  const ParallelismConfig& layout = job.parallelism;
  const auto refuse = [](const std::string& key, const std::string& value, const char* advice) {
    return key + " = " + value + " can be simulated but not trained yet; " + advice;
  };
  if (layout.context > 1 && layout.context_kind == ContextKind::kRing) {
    return refuse("parallelism.context_kind", "ring with parallelism.context = " + std::to_string(layout.context),
                  "set it to alltoall");
  }
  if (job.hardware.num_devices > 1 && job.training.operations == OperationSet::kAten) {
    return std::string("training.operations = aten runs on one device; set it to kernels");
  }
  if (layout.tensor > 1 && !layout.sequence) {
    return refuse("parallelism.sequence", "false with parallelism.tensor = " + std::to_string(layout.tensor),
                  "set it to true");
  }
  const int64_t width = job.model.expert_hidden_size / layout.expert_tensor, multiple = expert_row_multiple(job);
  if (width % multiple != 0) {
    return "model.expert_hidden_size / parallelism.expert_tensor = " + std::to_string(width) +
           " cannot be trained here; " + use_multiple(multiple);
  }
  if (layout.zero_group > 0) return refuse("parallelism.zero_group", std::to_string(layout.zero_group), "leave it out");
  if (layout.schedule == PipelineSchedule::kZeroBubble) {
    return refuse("parallelism.schedule", name_of(layout.schedule), "set it to 1f1b or interleaved");
  }
  if (layout.pipeline > 1 && job.model.tie_embeddings) {
    return refuse("model.tie_embeddings", "true", "set it to false, or parallelism.pipeline to 1");
  }
  return std::nullopt;
}

bool trainer_runs(const Job& job) { return !why_model_is_not_trained(job) && !why_layout_is_not_trained(job); }

}  // namespace mmoe
