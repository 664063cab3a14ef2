#include "train/interchange/model_folder.h"

#include <gtest/gtest.h>

#include <fstream>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;

class ModelFolderTest : public testing::Test {
 protected:
  ModelFolderTest() {
    fs::remove_all(folder);
    fs::create_directories(folder);
    write("config.json", "{}");
  }
  ~ModelFolderTest() override { fs::remove_all(folder); }

  void write(const char* name, const std::string& text) const { std::ofstream(folder / name) << text; }
  void write_shard(const char* name, const std::vector<std::string>& tensors) const {
    std::vector<SafetensorsTensor> list;
    for (const std::string& tensor : tensors) list.push_back({tensor, SafetensorsDtype::kF32, {2}, values});
    write_safetensors(folder / name, list);
  }
  std::string refusal() const {
    try {
      const ModelFolder model(folder);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  }

  const fs::path folder = fs::temp_directory_path() / ("model_folder_" + std::to_string(::getpid()));
  const float values[2] = {1, 2};
};

TEST_F(ModelFolderTest, FindsTensorsInEveryShard) {
  write_shard("a.safetensors", {"x"});
  write_shard("b.safetensors", {"y", "z"});
  write("model.safetensors.index.json", R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})");
  const ModelFolder model(folder);
  EXPECT_EQ(model.tensors().size(), 3U);
  EXPECT_EQ(model.at("y", {2}).bytes, 8U);
  EXPECT_THROW(model.at("y", {1, 2}), ConfigError);
  EXPECT_THROW(model.at("w", {2}), ConfigError);
}

TEST_F(ModelFolderTest, RefusesNamesThatAreNotInTheFolder) {
  for (const char* name : {"../a.safetensors", "/etc/passwd", "..", ".", "", "a/../b"}) {
    write("model.safetensors.index.json", nlohmann::json{{"weight_map", {{"x", name}}}}.dump());
    EXPECT_NE(refusal().find("no file name of this folder"), std::string::npos) << name << ": " << refusal();
  }
  write("model.safetensors.index.json", R"({"weight_map": {"x": 3}})");
  EXPECT_NE(refusal().find("no file name of this folder"), std::string::npos);
}

TEST_F(ModelFolderTest, RefusesAnIndexThatDoesNotMatchItsFiles) {
  write_shard("a.safetensors", {"x"});
  write("model.safetensors.index.json", R"({"weight_map": {"y": "a.safetensors"}})");
  EXPECT_NE(refusal().find("does not hold it"), std::string::npos);
  write_shard("b.safetensors", {"x", "y"});
  write("model.safetensors.index.json", R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})");
  EXPECT_NE(refusal().find("in another file of the folder too"), std::string::npos);
  write("model.safetensors.index.json", "[]");
  EXPECT_NE(refusal().find("weight_map"), std::string::npos);
}

TEST_F(ModelFolderTest, NamesWhatIsMissing) {
  EXPECT_NE(refusal().find("has neither model.safetensors"), std::string::npos);
  fs::remove(folder / "config.json");
  EXPECT_NE(refusal().find("config.json"), std::string::npos);
  fs::remove_all(folder);
  EXPECT_NE(refusal().find("is no folder"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
