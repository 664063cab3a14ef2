#include "train/interchange/import_model.h"

#include <algorithm>
#include <set>

#include "sim/config/enum_names.h"
#include "sim/config/hf_config.h"
#include "sim/units/errors.h"
#include "train/checkpoint/checkpoint_directory.h"
#include "train/checkpoint/model_checkpoint.h"
#include "train/checkpoint/tensor_elements.h"
#include "train/interchange/model_folder.h"
#include "train/interchange/tensor_names.h"
#include "train/interchange/tokenizer_files.h"
#include "train/interchange/upcycle.h"
#include "train/loop/job_requirements.h"
#include "train/model/transformer.h"
#include "train/ops/parallel.h"

namespace mmoe {
namespace {

constexpr int64_t kDefaultSeqLen = 2048;

// What hf_config leaves out because it costs nothing, but which changes what the model computes.
void check_positions(const ModelFolder& folder) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = folder.config().find(key);
    if (found == folder.config().end() || !found->is_object()) continue;
    const std::string type = found->value("rope_type", found->value("type", std::string("default")));
    if (type != "default") {
      throw ConfigError(folder.where() + ": " + key + " of type \"" + type +
                        "\" is not computed here: results would differ; only plain rotary positions are");
    }
    if (found->value("partial_rotary_factor", 1.0) != 1.0) {
      throw ConfigError(folder.where() + ": " + key + ".partial_rotary_factor is not computed here; only 1 is");
    }
  }
}

const char* precision_of(const ModelFolder& folder) {
  const auto& [name, place] = *folder.tensors().begin();
  return place.view->dtype == SafetensorsDtype::kBF16  ? "bf16"
         : place.view->dtype == SafetensorsDtype::kF64 ? "fp64"
                                                       : "fp32";
}

Job imported_job(const ModelFolder& folder, const ModelConfig& model, const Overrides& overrides) {
  const int64_t positions = folder.config().value("max_position_embeddings", kDefaultSeqLen);
  Job shape;
  shape.model = model;
  const nlohmann::json json = {{"model", to_json(shape)["model"]},
                               {"hardware", {{"device", "cpu"}}},
                               {"training",
                                {{"seq_len", std::clamp<int64_t>(positions, 1, kDefaultSeqLen)},
                                 {"micro_batch_size", 1},
                                 {"global_batch_size", 1},
                                 {"precision", precision_of(folder)}}}};
  return parse_job(json, folder.where(), folder.path().string(), overrides);
}

// Every tensor of the folder must have been used: what is left over would change the model's results.
void check_nothing_left(const ModelFolder& folder, const ModelConfig& model, const std::set<std::string>& used) {
  for (const auto& [name, place] : folder.tensors()) {
    if (used.count(name) > 0 || name.ends_with("rotary_emb.inv_freq")) continue;
    if (model.tie_embeddings && name == "lm_head.weight") continue;
    throw ConfigError(place.file->path().string() + ": tensor " + quote_for_message(name) +
                      " has no place in the model of config.json; such a model cannot be imported");
  }
}

}  // namespace

Job import_model(const std::filesystem::path& from, const std::filesystem::path& out, const ImportOptions& options) {
  const ModelFolder folder(from);
  const ModelConfig theirs = parse_hf_config(folder.config(), folder.where());
  check_positions(folder);
  if (folder.tensors().empty()) throw ConfigError(from.string() + ": holds no tensor; copy the folder again");
  const ModelConfig model = options.upcycle ? upcycled_model(theirs, *options.upcycle) : theirs;
  const Job job = imported_job(folder, model, options.overrides);
  training_device(job);  // refuses what cannot be computed here
  const TensorNaming naming =
      folder.config()["model_type"] == "mixtral" ? TensorNaming::kMixtral : TensorNaming::kCommon;
  const at::ScalarType type = accumulate_type(compute_type(job.training.precision));

  std::set<std::string> used;
  const auto find = [&](const ForeignTensor& tensor) -> const SafetensorsView& {
    used.insert(tensor.name);
    return folder.at(tensor.name, tensor.shape);
  };
  std::vector<ProducedTensor> tensors;
  for (const ParameterSpec& spec : parameter_specs(model)) {
    if (options.upcycle && is_upcycled(spec)) {
      tensors.push_back({spec.name, safetensors_dtype(type), spec.shape, [&, spec](const ByteSink& sink) {
                           write_upcycled(folder, theirs, spec, *options.upcycle, type, sink);
                         }});
      continue;
    }
    std::vector<const SafetensorsView*> parts;
    for (const ForeignTensor& tensor : foreign_tensors(model, naming, spec)) parts.push_back(&find(tensor));
    tensors.push_back({spec.name, safetensors_dtype(type), spec.shape, [parts, type](const ByteSink& sink) {
                         for (const SafetensorsView* part : parts) {
                           write_elements(stored_tensor(*part), type, sink);
                           SafetensorsFile::release(*part);
                         }
                       }});
  }
  if (options.upcycle) {
    for (const ParameterSpec& spec : parameter_specs(theirs)) {
      for (const ForeignTensor& tensor : foreign_tensors(theirs, naming, spec)) find(tensor);
    }
  }
  check_nothing_left(folder, model, used);

  CheckpointWriter writer(out);
  write_produced_safetensors(writer.staging() / kWeightsFile, tensors);
  copy_tokenizer_files(from, writer.staging());
  writer.commit({{"step", 0}, {"job", to_json(job)}, {"foreign_config", folder.config()}});
  return job;
}

}  // namespace mmoe
