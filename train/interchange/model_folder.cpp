#include "train/interchange/model_folder.h"

#include "sim/config/json_text.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

constexpr const char* kWhole = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_float(SafetensorsDtype dtype) {
  return dtype == SafetensorsDtype::kF64 || dtype == SafetensorsDtype::kF32 || dtype == SafetensorsDtype::kF16 ||
         dtype == SafetensorsDtype::kBF16;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

}  // namespace

ModelFolder::ModelFolder(std::filesystem::path path) : path_(std::move(path)) {
  std::error_code error;
  if (!std::filesystem::is_directory(path_, error)) {
    throw ConfigError(path_.string() +
                      ": is no folder; name one with config.json and model.safetensors, as "
                      "save_pretrained of transformers writes it");
  }
  config_ = read_json_file(where());
  if (!std::filesystem::exists(path_ / kIndex, error)) {
    if (!std::filesystem::exists(path_ / kWhole, error)) {
      throw ConfigError(path_.string() + ": has neither " + kWhole + " nor " + kIndex +
                        "; only safetensors weights are read: save the model with safe_serialization");
    }
    add(kWhole);
    return;
  }
  const std::string index = (path_ / kIndex).string();
  const nlohmann::json json = read_json_file(index);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    throw ConfigError(index + ": has no object weight_map; copy the file again");
  }
  for (const auto& [name, value] : json["weight_map"].items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : "";
    // A plain name: nothing outside the folder is ever opened.
    if (file.empty() || file == "." || file == ".." || file.find('/') != std::string::npos ||
        file.find('\0') != std::string::npos) {
      throw ConfigError(index + ": weight_map puts " + quote_for_message(name) + " into " + value.dump() +
                        ", which is no file name of this folder");
    }
    add(file);
    if (files_.at(file).find(name) == nullptr) {
      throw ConfigError(index + ": weight_map puts " + quote_for_message(name) + " into " + quote_for_message(file) +
                        ", which does not hold it; copy the folder again");
    }
  }
}

void ModelFolder::add(const std::string& name) {
  const auto [found, is_new] = files_.try_emplace(name, path_ / name);
  if (!is_new) return;
  const SafetensorsFile& file = found->second;
  for (const std::string& tensor : file.names()) {
    if (!tensors_.emplace(tensor, Place{&file, file.find(tensor)}).second) {
      throw ConfigError(file.path().string() + ": tensor " + quote_for_message(tensor) +
                        " stands in another file of the folder too; remove the file that does not belong to the model");
    }
  }
}

const SafetensorsView& ModelFolder::at(const std::string& name, const std::vector<int64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw ConfigError(path_.string() + ": has no tensor " + name +
                      ", which the model of its config.json needs; is a file missing, or the config another model's?");
  }
  const SafetensorsView& view = *found->second.view;
  const std::string file = found->second.file->path().string();
  if (view.shape != shape) {
    throw ConfigError(file + ": tensor " + name + " has the shape " + shape_text(view.shape) + ", but by config.json " +
                      shape_text(shape) + "; the two belong to different models");
  }
  if (!is_float(view.dtype)) {
    throw ConfigError(file + ": tensor " + name + " is of type " + std::string(dtype_name(view.dtype)) +
                      "; only F64, F32, F16 and BF16 are read: export the model without quantisation");
  }
  return view;
}

}  // namespace mmoe
