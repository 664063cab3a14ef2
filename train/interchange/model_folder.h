#pragma once
// A Hugging Face model folder: config.json and one safetensors file or several with an index.

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "train/checkpoint/safetensors.h"

namespace mmoe {

class ModelFolder {
 public:
  // Opens and checks every file, reads no weight. Throws ConfigError (one line: file, what is wrong, what to do) where
  // something is missing or damaged, or the index names a file outside the folder.
  explicit ModelFolder(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& config() const { return config_; }
  std::string where() const { return (path_ / "config.json").string(); }

  // All tensors by name, and the file that holds each.
  struct Place {
    const SafetensorsFile* file;
    const SafetensorsView* view;
  };
  const std::map<std::string, Place>& tensors() const { return tensors_; }

  // Throws ConfigError where there is no such tensor, its shape is another, or it holds no floating-point numbers.
  const SafetensorsView& at(const std::string& name, const std::vector<int64_t>& shape) const;

 private:
  void add(const std::string& file);

  std::filesystem::path path_;
  nlohmann::json config_;
  std::map<std::string, SafetensorsFile> files_;
  std::map<std::string, Place> tensors_;
};

}  // namespace mmoe
