#include "train/checkpoint/model_checkpoint.h"

#include <ATen/ops/from_blob.h>

#include <numeric>

#include "sim/units/errors.h"
#include "train/checkpoint/checkpoint_directory.h"
#include "train/checkpoint/safetensors.h"

namespace mmoe {
namespace {

constexpr const char* kOptimizerFile = "optimizer.safetensors";

SafetensorsDtype dtype_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? SafetensorsDtype::kF64 : SafetensorsDtype::kF32;
}

// Views of `flat` in the places and shapes of the parameters.
std::vector<at::Tensor> views_like(const ParameterStore& parameters, const at::Tensor& flat) {
  std::vector<at::Tensor> views;
  for (const Parameter& parameter : parameters.all()) {
    views.push_back(
        flat.narrow(0, parameter.master.storage_offset(), parameter.master.numel()).view(parameter.master.sizes()));
  }
  return views;
}

void add_tensors(std::vector<SafetensorsTensor>& tensors, const ParameterStore& parameters,
                 const at::Tensor& flat_on_cpu, const std::string& suffix) {
  const std::vector<at::Tensor> views = views_like(parameters, flat_on_cpu);
  for (size_t i = 0; i < views.size(); ++i) {
    tensors.push_back(
        {parameters.all()[i].name + suffix, dtype_of(views[i]), views[i].sizes().vec(), views[i].data_ptr()});
  }
}

void read_tensors(const SafetensorsFile& file, const ParameterStore& parameters, const at::Tensor& flat,
                  const std::string& suffix) {
  const std::vector<at::Tensor> views = views_like(parameters, flat);
  for (size_t i = 0; i < views.size(); ++i) {
    const std::string name = parameters.all()[i].name + suffix;
    const SafetensorsView& stored = file.at(name);
    if (stored.dtype != dtype_of(views[i]) || at::IntArrayRef(stored.shape) != views[i].sizes()) {
      throw ConfigError(file.path().string() + ": tensor " + name +
                        " has another shape or type than the job's model; use the job file of the checkpoint's run");
    }
    at::Tensor view = views[i];
    view.copy_(at::from_blob(const_cast<std::byte*>(stored.data), stored.shape, view.options().device(at::kCPU)));
    SafetensorsFile::release(stored);
  }
}

}  // namespace

std::filesystem::path save_checkpoint(const std::filesystem::path& run_folder, const Job& job, int64_t step,
                                      const ParameterStore& parameters, const AdamW& optimizer,
                                      const nlohmann::json& extra) {
  const std::filesystem::path folder = checkpoint_folder(run_folder, step);
  CheckpointWriter writer(folder);
  {
    const at::Tensor master = parameters.master().cpu();
    std::vector<SafetensorsTensor> tensors;
    add_tensors(tensors, parameters, master, "");
    write_safetensors(writer.staging() / kWeightsFile, tensors);
  }
  const at::Tensor first = optimizer.first_moment().cpu(), second = optimizer.second_moment().cpu();
  std::vector<SafetensorsTensor> tensors;
  add_tensors(tensors, parameters, first, ".first_moment");
  add_tensors(tensors, parameters, second, ".second_moment");
  write_safetensors(writer.staging() / kOptimizerFile, tensors);
  nlohmann::json state = extra;
  state["step"] = step;
  state["job"] = to_json(job);
  writer.commit(state);
  return folder;
}

Job checkpoint_job(const std::filesystem::path& folder, const Overrides& overrides) {
  const nlohmann::json state = read_checkpoint_state(folder);
  const std::string where = (folder / "state.json").string();
  if (!state.contains("job")) throw ConfigError(where + ": has no key \"job\"; this is no checkpoint of mmoe train");
  return parse_job(state["job"], where, folder.string(), overrides);
}

void load_weights(const std::filesystem::path& folder, ParameterStore& parameters) {
  const SafetensorsFile file(folder / kWeightsFile);
  read_tensors(file, parameters, parameters.master(), "");
  parameters.refresh_compute_weights();
}

void load_optimizer(const std::filesystem::path& folder, const ParameterStore& parameters, AdamW& optimizer) {
  const SafetensorsFile file(folder / kOptimizerFile);
  read_tensors(file, parameters, optimizer.first_moment(), ".first_moment");
  read_tensors(file, parameters, optimizer.second_moment(), ".second_moment");
}

}  // namespace mmoe
