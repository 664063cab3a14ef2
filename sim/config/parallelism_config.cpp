#include "sim/config/parallelism_config.h"

#include <algorithm>
#include <numeric>

#include "sim/config/sections.h"

namespace mmoe {
namespace {

constexpr int64_t kMaxDegree = 1 << 20;

std::string text(int64_t value) { return std::to_string(value); }

}  // namespace

std::string suggest_divisors(int64_t whole, int64_t wrong) {
  int64_t below = 0, above = 0;
  for (int64_t d = std::min(wrong, whole); d >= 1 && below == 0; --d) {
    if (whole % d == 0) below = d;
  }
  for (int64_t d = wrong + 1; d <= whole && above == 0; ++d) {
    if (whole % d == 0) above = d;
  }
  if (below == 0 && above == 0) return "use 1";
  if (below == 0 || above == 0) return "use " + text(std::max(below, above));
  return "use " + text(below) + " or " + text(above);
}

ParallelismConfig read_parallelism(JsonReader& root) {
  JsonReader section = root.child("parallelism");
  ParallelismConfig parallelism;
  section.read("tensor", parallelism.tensor, 1, kMaxDegree);
  section.read("sequence", parallelism.sequence);
  section.read("context", parallelism.context, 1, kMaxDegree);
  section.read("pipeline", parallelism.pipeline, 1, kMaxDegree);
  section.read("virtual_pipeline", parallelism.virtual_pipeline, 1, kMaxDegree);
  section.read("expert", parallelism.expert, 1, kMaxDegree);
  section.read("expert_tensor", parallelism.expert_tensor, 1, kMaxDegree);
  section.read("zero_stage", parallelism.zero_stage, 0, 3);
  section.read("zero_group", parallelism.zero_group, 0, kMaxDegree);
  section.read_enum("context_kind", parallelism.context_kind);
  section.read_enum("schedule", parallelism.schedule);
  section.read("stage_layers", parallelism.stage_layers);
  section.finish();
  // 1F1B with virtual stages is the interleaved schedule.
  if (parallelism.virtual_pipeline > 1 && parallelism.schedule == PipelineSchedule::kOneForwardOneBackward) {
    parallelism.schedule = PipelineSchedule::kInterleaved;
  }
  return parallelism;
}

void ParallelismConfig::validate(const ModelConfig& model, const HardwareConfig& hardware,
                                 const std::string& where) const {
  const auto rule = [&](bool holds, const char* key, int64_t value, const std::string& what) {
    if (!holds) throw ConfigError(about(where, std::string("parallelism.") + key, value) + what);
  };
  const auto divides = [&](int64_t degree, const char* key, int64_t size, const char* size_key, const char* why) {
    if (size > 0 && size % degree != 0) {
      rule(false, key, degree,
           std::string("does not divide model.") + size_key + " = " + text(size) + " (" + why + "); " +
               suggest_divisors(size, degree));
    }
  };
  divides(tensor, "tensor", model.num_heads, "num_heads", "each rank holds whole heads");
  divides(tensor, "tensor", model.num_kv_heads, "num_kv_heads", "each rank holds whole key-value heads");
  divides(tensor, "tensor", model.dense_hidden_size, "dense_hidden_size", "each rank holds equal columns");
  divides(tensor, "tensor", model.shared_expert_hidden_size, "shared_expert_hidden_size",
          "each rank holds equal columns");
  if (context > 1 && context_kind == ContextKind::kAllToAll) {
    // DeepSpeed-Ulysses (arXiv 2309.14509), section 3: during attention each rank holds whole heads.
    for (const auto& [heads, key] : {std::pair{model.num_heads, "num_heads"}, {model.num_kv_heads, "num_kv_heads"}}) {
      rule(heads % (tensor * context) == 0, "context", context,
           "x parallelism.tensor = " + text(tensor) + " does not divide model." + key + " = " + text(heads) +
               " (parallelism.context_kind = \"alltoall\" splits heads over both); use smaller degrees or \"ring\"");
    }
  }
  if (model.num_experts > 0) {
    divides(expert, "expert", model.num_experts, "num_experts", "each rank holds whole experts");
    divides(expert_tensor, "expert_tensor", model.expert_hidden_size, "expert_hidden_size",
            "each rank holds equal columns of an expert");
  } else {
    rule(expert == 1, "expert", expert, "needs an MoE model, and model.num_experts is 0; use 1");
    rule(expert_tensor == 1, "expert_tensor", expert_tensor, "needs an MoE model, and model.num_experts is 0; use 1");
  }
  const int64_t chunks = pipeline * virtual_pipeline;
  rule(chunks <= model.num_layers, pipeline > model.num_layers ? "pipeline" : "virtual_pipeline",
       pipeline > model.num_layers ? pipeline : virtual_pipeline,
       "makes " + text(chunks) + " pipeline chunks of model.num_layers = " + text(model.num_layers) +
           "; each needs at least one layer");
  if (!stage_layers.empty()) {
    const int64_t layers = std::accumulate(stage_layers.begin(), stage_layers.end(), int64_t{0});
    const int64_t least = *std::min_element(stage_layers.begin(), stage_layers.end());
    if (static_cast<int64_t>(stage_layers.size()) != chunks || layers != model.num_layers || least < 0) {
      throw ConfigError(about(where, "parallelism.stage_layers", stage_layers) + "must list " + text(chunks) +
                        " numbers, one a pipeline chunk, that add up to model.num_layers = " + text(model.num_layers));
    }
  }
  rule(zero_group == 0 || data(hardware) % zero_group == 0, "zero_group", zero_group,
       "does not divide the data parallel size " + text(data(hardware)));
  rule(virtual_pipeline == 1 || pipeline > 1, "virtual_pipeline", virtual_pipeline,
       "needs parallelism.pipeline above 1; use 1");
  rule(schedule != PipelineSchedule::kInterleaved || virtual_pipeline > 1, "virtual_pipeline", virtual_pipeline,
       "makes one chunk a rank, but parallelism.schedule = \"interleaved\" needs at least 2");
  const int64_t attention = tensor * pipeline * context;
  if (hardware.num_devices % attention != 0) {
    throw ConfigError(about(where, "hardware.num_devices", hardware.num_devices) +
                      "is no multiple of parallelism.tensor x pipeline x context = " + text(tensor) + " x " +
                      text(pipeline) + " x " + text(context) + " = " + text(attention) +
                      " (the data parallel size must be whole); use " +
                      text((hardware.num_devices / attention + 1) * attention) + " devices or smaller degrees");
  }
  const int64_t experts = expert * expert_tensor * pipeline;
  if (hardware.num_devices % experts != 0) {
    throw ConfigError(about(where, "hardware.num_devices", hardware.num_devices) +
                      "is no multiple of parallelism.expert x expert_tensor x pipeline = " + text(expert) + " x " +
                      text(expert_tensor) + " x " + text(pipeline) + " = " + text(experts) +
                      " (the expert data parallel size must be whole); use " +
                      text((hardware.num_devices / experts + 1) * experts) + " devices or smaller degrees");
  }
  if (model.num_experts > 0) {
    const int64_t copies = sharded_copies(hardware);
    rule(expert_data(hardware) % copies == 0, "zero_group", zero_group,
         "makes " + text(copies) + " sharded copies, which do not divide the expert data parallel size " +
             text(expert_data(hardware)) + " (each holds whole experts)");
  }
}

nlohmann::json to_json(const ParallelismConfig& parallelism) {
  return nlohmann::json{{"tensor", parallelism.tensor},
                        {"sequence", parallelism.sequence},
                        {"context", parallelism.context},
                        {"pipeline", parallelism.pipeline},
                        {"virtual_pipeline", parallelism.virtual_pipeline},
                        {"expert", parallelism.expert},
                        {"expert_tensor", parallelism.expert_tensor},
                        {"zero_stage", parallelism.zero_stage},
                        {"zero_group", parallelism.zero_group},
                        {"context_kind", name_of(parallelism.context_kind)},
                        {"stage_layers", parallelism.stage_layers},
                        {"schedule", name_of(parallelism.schedule)}};
}

}  // namespace mmoe
