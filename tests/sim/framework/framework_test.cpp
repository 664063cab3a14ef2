#include "sim/framework/framework.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "profiles/presets/embedded.h"
#include "sim/config/device_file.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

std::string write(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path) << text;
  return path;
}

TEST(Framework, EveryPresetLoadsOnEveryDevice) {
  for (const std::string& name : embedded_names("presets/frameworks")) {
    for (const std::string& device : embedded_names("hardware")) {
      EXPECT_EQ(load_framework(name, load_device(device, ""), "test").name, name);
    }
  }
}

TEST(Framework, FilesBuildOnOthersAndDevicesOverride) {
  const std::string path =
      write("own.json", R"({"name": "own", "based_on": "nanotron", "time": {"gemm_efficiency": 0.5},
    "devices": {"h100-sxm-80gb": {"time": {"gemm_efficiency": 0.4}}}})");
  const Framework h100 = load_framework(path, load_device("h100-sxm-80gb", ""), "test");
  const Framework a100 = load_framework(path, load_device("a100-sxm-80gb", ""), "test");
  EXPECT_EQ(h100.time.gemm_efficiency, 0.4);
  EXPECT_EQ(a100.time.gemm_efficiency, 0.5);
  EXPECT_EQ(h100.stage_cut, StageCut::kCost);  // of nanotron
}

TEST(Framework, MixturesMayHaveASpreadOfTheirOwn) {
  const DeviceSpec device = load_device("h100-sxm-80gb", "");
  const std::string plain = write("plain.json", R"({"name": "plain", "spread": {"step_seconds": 0.05}})");
  const std::string split =
      write("split.json", R"({"name": "split", "spread": {"step_seconds": 0.05, "moe_step_seconds": 0.2}})");
  EXPECT_EQ(load_framework(plain, device, "test").spread_of("step_seconds", true), 0.05);
  EXPECT_EQ(load_framework(split, device, "test").spread_of("step_seconds", true), 0.2);
  EXPECT_EQ(load_framework(split, device, "test").spread_of("step_seconds", false), 0.05);
  // A base's own one of mixtures goes where the quantity is given anew.
  const std::string anew =
      write("anew.json", R"({"name": "anew", "based_on": ")" + split + R"(", "spread": {"step_seconds": 0.07}})");
  EXPECT_EQ(load_framework(anew, device, "test").spread_of("step_seconds", true), 0.07);
}

TEST(Framework, OptionsThatItDoesNotHaveAreNamed) {
  const Framework framework = load_framework("megatron_core", load_device("h100-sxm-80gb", ""), "test");
  EXPECT_NO_THROW(framework.check_options({"grouped_gemm"}, "job.json"));
  try {
    framework.check_options({"group_gemm"}, "job.json");
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean \"grouped_gemm\""), std::string::npos) << error.what();
  }
}

TEST(Framework, MistakesNameFileAndKey) {
  const DeviceSpec device = load_device("h100-sxm-80gb", "");
  const auto message = [&](const std::string& text) {
    try {
      load_framework(write("wrong.json", text), device, "test");
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message(R"({"time": {"gemm_efficency": 0.5}})").find("time.gemm_efficency"), std::string::npos);
  EXPECT_NE(message(R"({"time": {"gemm_efficiency": 1.5}})").find("time.gemm_efficiency"), std::string::npos);
  EXPECT_NE(message(R"({"stage_cut": "odd"})").find("stage_cut"), std::string::npos);
  EXPECT_NE(message(R"({"splits": ["tensors"]})").find("splits = [\"tensors\"] names"), std::string::npos);
  EXPECT_NE(message(R"({"zero_stages": [0, 4]})").find("must list at least one of 0, 1, 2, 3"), std::string::npos);
  EXPECT_NE(message(R"({"zero_stages": []})").find("must list at least one of 0, 1, 2, 3"), std::string::npos);
  EXPECT_NE(message(R"({"recomputes": ["none"]})").find("recomputes = [\"none\"] names"), std::string::npos);
  EXPECT_NE(message(R"({"dispatchers": []})").find("dispatchers = [] must list"), std::string::npos);
  EXPECT_NE(message(R"({"choices": ["overlap"]})").find("choices = [\"overlap\"] names"), std::string::npos);
  EXPECT_EQ(message(R"({"splits": [], "recomputes": [], "choices": []})"), "");  // data parallelism, everything kept
  EXPECT_THROW(load_framework("megatron_cor", device, "test"), ConfigError);
}

}  // namespace
}  // namespace mmoe
