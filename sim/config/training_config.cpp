#include "sim/config/training_config.h"

#include <algorithm>

#include "sim/config/device_file.h"
#include "sim/config/parameter_parts.h"
#include "sim/config/recompute_modules.h"
#include "sim/config/sections.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

constexpr int64_t kMaxSeqLen = 1 << 27;
constexpr int64_t kMaxBatch = 1 << 28;
constexpr int64_t kMaxSteps = int64_t{1} << 40;
constexpr int64_t kMaxRecomputedLayers = 10000;
constexpr double kMaxTokens = 1e18;

void read_recompute(JsonReader& section, Recompute& recompute) {
  std::vector<std::string> words = {"none"};
  if (const nlohmann::json* value = section.find("recompute"); value != nullptr && *value != "auto") {
    section.read("recompute", words);
  }
  if (words == std::vector<std::string>{"none"}) return;
  if (words == std::vector<std::string>{"full"}) {
    recompute.full = true;
    return;
  }
  for (const std::string& word : words) {
    if (std::find(kRecomputeModules.begin(), kRecomputeModules.end(), word) == kRecomputeModules.end()) {
      section.fail("recompute", "names \"" + word + "\"; use \"none\", \"full\" or a list of " +
                                    join({kRecomputeModules.begin(), kRecomputeModules.end()}));
    }
    if (!recompute.has(word)) recompute.modules.push_back(word);
  }
}

void read_freeze(JsonReader& section, std::vector<std::string>& freeze) {
  section.read("freeze", freeze);
  for (const std::string& part : freeze) {
    if (std::find(kParameterParts.begin(), kParameterParts.end(), part) != kParameterParts.end()) continue;
    section.fail("freeze",
                 "names \"" + part + "\"; use a list of " + join({kParameterParts.begin(), kParameterParts.end()}));
  }
}

// The parts of which a model has tensors.
std::vector<std::string> parts_of(const ModelConfig& model) {
  const bool moe = model.num_moe_layers() > 0;
  std::vector<std::string> parts = {"embedding", "attention", "norms"};
  if (model.num_moe_layers() < model.num_layers) parts.push_back("mlp");
  if (moe) parts.insert(parts.end(), {"router", "experts"});
  if (moe && model.shared_expert_hidden_size > 0) parts.push_back("shared_expert");
  if (!model.tie_embeddings) parts.push_back("head");
  return parts;
}

// "balanced", "zipf:1.2", {"dirichlet": 5} or a file of measured loads.
void read_load(JsonReader& section, const std::string& folder, MoeTrainingConfig& moe) {
  const nlohmann::json* value = section.find("load");
  if (value == nullptr) return;
  const char* advice = "must be \"balanced\", {\"zipf\": 1.2}, {\"dirichlet\": 5} or a file of measured loads";
  if (value->is_object()) {
    JsonReader law = section.child("load");
    for (const LoadKind kind : {LoadKind::kZipf, LoadKind::kDirichlet}) {
      const std::string name = name_of(kind);
      if (value->contains(name)) moe.load = kind;
      law.read(name, moe.load_parameter, 1e-6, 1e6);
    }
    law.finish();
    if (value->size() != 1) section.fail("load", advice);
    return;
  }
  if (!value->is_string()) section.fail("load", advice);
  const std::string text = value->get<std::string>();
  const std::string law = text.substr(0, text.find(':'));
  if (text == "balanced") return;
  if (law == "zipf" || law == "dirichlet") {
    moe.load = law == "zipf" ? LoadKind::kZipf : LoadKind::kDirichlet;
    const std::string number = law == text ? "" : text.substr(law.size() + 1);
    char* end = nullptr;
    moe.load_parameter = std::strtod(number.c_str(), &end);
    if (number.empty() || *end != '\0' || !(moe.load_parameter > 0 && moe.load_parameter <= 1e6)) {
      section.fail("load", "needs its parameter, a number above 0: {\"" + law + "\": 1.2}");
    }
    return;
  }
  if (text.find('/') == std::string::npos && text.find('.') == std::string::npos) section.fail("load", advice);
  moe.load = LoadKind::kMeasured;
  moe.load_file = resolve_path(text, folder);
}

}  // namespace

bool Recompute::has(std::string_view module) const {
  return full || std::find(modules.begin(), modules.end(), module) != modules.end();
}

FlopsPerSecond peak_of(const DeviceSpec& device, Precision precision) {
  switch (precision) {
    case Precision::kFp64:
      return device.peak_fp64;
    case Precision::kFp32:
      return device.peak_fp32;
    case Precision::kBf16:
      return device.peak_bf16;
    case Precision::kFp16:
      return device.peak_fp16;
    case Precision::kFp8:
      return device.peak_fp8;
    case Precision::kFp4:
      return device.peak_fp4;
  }
  return FlopsPerSecond{};
}

bool TrainingConfig::has_option(std::string_view option) const {
  return std::find(options.begin(), options.end(), option) != options.end();
}

bool TrainingConfig::freezes(std::string_view part) const {
  return std::find(freeze.begin(), freeze.end(), part) != freeze.end();
}

TrainingConfig read_training(JsonReader& root, const std::string& folder) {
  JsonReader section = root.child("training");
  TrainingConfig training;
  section.require("seq_len", "give the number of tokens of a sequence, e.g. 4096");
  section.read("seq_len", training.seq_len, 1, kMaxSeqLen);
  section.read("micro_batch_size", training.micro_batch_size, 1, kMaxBatch);
  training.global_batch_size = 0;
  section.read("global_batch_size", training.global_batch_size, 1, kMaxBatch);
  section.read("tokens", training.tokens, 0, kMaxTokens);
  section.read("framework", training.framework);
  if (names_file(training.framework)) training.framework = resolve_path(training.framework, folder);
  section.read_enum("precision", training.precision);
  read_recompute(section, training.recompute);
  section.read("recompute_num_layers", training.recompute.num_layers, 0, kMaxRecomputedLayers);
  section.read_enum("expert_saving", training.expert_saving);
  section.read_enum("operations", training.operations);
  if (training.precision == Precision::kFp64) training.optimizer_precision = Precision::kFp64;
  section.read_enum("optimizer_precision", training.optimizer_precision);
  section.read_enum("gradient_precision", training.gradient_precision);
  section.read_enum("attention_backend", training.attention_backend);
  section.read("hidden_dropout", training.hidden_dropout, 0, 1);
  section.read("attention_dropout", training.attention_dropout, 0, 1);
  section.read("options", training.options);
  section.read("overlap", training.overlap);
  section.read_enum("offload", training.offload);
  section.read_enum("packing", training.packing);
  section.read("reset_attention_mask", training.reset_attention_mask);
  section.read("learning_rate", training.learning_rate, 0, 1e3);
  section.read_enum("schedule", training.schedule);
  section.read("warmup_steps", training.warmup_steps, 0, kMaxSteps);
  section.read("weight_decay", training.weight_decay, 0, 1e3);
  section.read("beta1", training.beta1, 0, 1);
  section.read("beta2", training.beta2, 0, 1);
  section.read("clip_norm", training.clip_norm, 0, 1e9);
  read_freeze(section, training.freeze);
  section.read("load_balance_coefficient", training.load_balance_coefficient, 0, 1e6);
  section.read("z_loss_coefficient", training.z_loss_coefficient, 0, 1e6);
  section.read("checkpoint_interval", training.checkpoint_interval, 0, kMaxSteps);
  section.read("seed", training.seed);
  JsonReader moe = section.child("moe");
  moe.read_enum("dispatch", training.moe.dispatch);
  moe.read("capacity_factor", training.moe.capacity_factor, 1e-3, 1e6);
  moe.read_enum("dispatcher", training.moe.dispatcher);
  read_load(moe, folder, training.moe);
  moe.finish();
  section.finish();
  return training;
}

void TrainingConfig::validate(const ModelConfig& model, const HardwareConfig& hardware,
                              const ParallelismConfig& parallelism, const std::string& where) const {
  const auto rule = [&](bool holds, const char* key, const auto& value, const std::string& what) {
    if (!holds) throw ConfigError(about(where, std::string("training.") + key, value) + what);
  };
  const auto text = [](int64_t value) { return std::to_string(value); };
  const int64_t replicas = parallelism.data(hardware);
  const int64_t unit = micro_batch_size * replicas;
  rule(global_batch_size % unit == 0 && global_batch_size >= unit, "global_batch_size", global_batch_size,
       "is no multiple of micro_batch_size x data parallel size = " + text(micro_batch_size) + " x " + text(replicas) +
           " = " + text(unit) + "; use " +
           (global_batch_size < unit ? "" : text(global_batch_size / unit * unit) + " or ") +
           text((global_batch_size / unit + 1) * unit));
  const int64_t slices = parallelism.context > 1 ? 2 * parallelism.context : 1;
  rule(seq_len % slices == 0, "seq_len", seq_len,
       "is no multiple of 2 x parallelism.context = " + text(slices) +
           " (each rank takes an early and a late slice, so that causal attention is balanced)");
  const int64_t local = seq_len / parallelism.context;
  rule(!parallelism.sequence || local % parallelism.tensor == 0, "seq_len", seq_len,
       "does not split over parallelism.tensor = " + text(parallelism.tensor) + " ranks of sequence parallelism");
  const int64_t micro_batches = num_micro_batches(replicas);
  rule(parallelism.virtual_pipeline == 1 || micro_batches % parallelism.pipeline == 0, "global_batch_size",
       global_batch_size,
       "gives " + text(micro_batches) +
           " micro-batches a replica; the interleaved schedule needs a multiple of "
           "parallelism.pipeline = " +
           text(parallelism.pipeline));
  rule(learning_rate > 0, "learning_rate", learning_rate, "must be above 0");
  rule(beta1 < 1, "beta1", beta1, "must be below 1");
  rule(beta2 < 1, "beta2", beta2, "must be below 1");
  const std::vector<std::string> parts = parts_of(model);
  for (const std::string& part : freeze) {
    const bool tied = part == "head" && model.tie_embeddings;
    rule(std::find(parts.begin(), parts.end(), part) != parts.end(), "freeze", part,
         tied ? "is the embedding too (model.tie_embeddings); freeze \"embedding\""
              : "is no part of this model; it has " + join(parts));
  }
  rule(!std::all_of(parts.begin(), parts.end(), [&](const std::string& part) { return freezes(part); }), "freeze",
       join(freeze), "leaves nothing to train; leave one part out");
  if (offload != Offload::kNone && hardware.num_devices > 1 && hardware.spec.host_link.value == 0) {
    throw ConfigError(about(where, "training.offload", name_of(offload)) +
                      "needs the device's host_link_one_way_gb_per_s; " + hardware.device +
                      " has none: give a device file with it");
  }
  rule(optimizer_precision != Precision::kFp8 && optimizer_precision != Precision::kFp4, "optimizer_precision",
       name_of(optimizer_precision), "is too coarse for Adam; use fp32 or bf16");
  rule((precision == Precision::kFp64) == (optimizer_precision == Precision::kFp64), "optimizer_precision",
       name_of(optimizer_precision),
       "does not go with training.precision = " + name_of(precision) + "; fp64 is for both or neither");
  rule(expert_saving == ExpertSaving::kLean || framework == TrainingConfig().framework, "expert_saving",
       name_of(expert_saving),
       "is a choice of this trainer; with training.framework = " + framework + " use recompute");
  const FlopsPerSecond peak = peak_of(hardware.spec, precision);
  rule(peak.value > 0, "precision", name_of(precision),
       "is not supported by " + hardware.device + " (no peak of that precision in its data)");
}

nlohmann::json to_json(const TrainingConfig& training) {
  const MoeTrainingConfig& moe = training.moe;
  nlohmann::json recompute = training.recompute.modules;
  if (training.recompute.modules.empty()) recompute = training.recompute.full ? "full" : "none";
  nlohmann::json load = name_of(moe.load);
  if (moe.load == LoadKind::kMeasured) load = moe.load_file;
  if (moe.load == LoadKind::kZipf || moe.load == LoadKind::kDirichlet) load = {{name_of(moe.load), moe.load_parameter}};
  return nlohmann::json{{"seq_len", training.seq_len},
                        {"micro_batch_size", training.micro_batch_size},
                        {"global_batch_size", training.global_batch_size},
                        {"tokens", training.tokens},
                        {"precision", name_of(training.precision)},
                        {"recompute", recompute},
                        {"recompute_num_layers", training.recompute.num_layers},
                        {"expert_saving", name_of(training.expert_saving)},
                        {"operations", name_of(training.operations)},
                        {"framework", training.framework},
                        {"gradient_precision", name_of(training.gradient_precision)},
                        {"attention_backend", name_of(training.attention_backend)},
                        {"hidden_dropout", training.hidden_dropout},
                        {"attention_dropout", training.attention_dropout},
                        {"options", training.options},
                        {"optimizer_precision", name_of(training.optimizer_precision)},
                        {"overlap", training.overlap},
                        {"offload", name_of(training.offload)},
                        {"packing", name_of(training.packing)},
                        {"reset_attention_mask", training.reset_attention_mask},
                        {"learning_rate", training.learning_rate},
                        {"schedule", name_of(training.schedule)},
                        {"warmup_steps", training.warmup_steps},
                        {"weight_decay", training.weight_decay},
                        {"beta1", training.beta1},
                        {"beta2", training.beta2},
                        {"clip_norm", training.clip_norm},
                        {"freeze", training.freeze},
                        {"load_balance_coefficient", training.load_balance_coefficient},
                        {"z_loss_coefficient", training.z_loss_coefficient},
                        {"checkpoint_interval", training.checkpoint_interval},
                        {"seed", training.seed},
                        {"moe",
                         {{"dispatch", name_of(moe.dispatch)},
                          {"capacity_factor", moe.capacity_factor},
                          {"dispatcher", name_of(moe.dispatcher)},
                          {"load", load}}}};
}

}  // namespace mmoe
