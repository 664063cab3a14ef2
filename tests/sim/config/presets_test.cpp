// Every shipped file loads, and says what it should.

#include <gtest/gtest.h>

#include "profiles/presets/embedded.h"
#include "sim/config/device_file.h"
#include "sim/config/job.h"
#include "sim/config/json_text.h"
#include "sim/config/model_preset.h"
#include "sim/formulas/parameter_counts.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

class Device : public testing::TestWithParam<std::string> {};

TEST_P(Device, LoadsAndEachNumberHasItsSource) {
  const DeviceSpec spec = load_device(GetParam(), "test");
  EXPECT_EQ(spec.name, GetParam());
  EXPECT_GT(spec.memory, gib(16));
  EXPECT_GT(spec.memory_bandwidth.value, 0);
  const nlohmann::json file = parse_json(*embedded_file("hardware/" + GetParam() + ".json"), GetParam());
  const nlohmann::json flat = file.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    if (!value.is_number()) continue;
    std::string key = pointer.substr(1);
    std::replace(key.begin(), key.end(), '/', '.');
    EXPECT_TRUE(file["sources"].contains(key)) << key << " has no source";
  }
  for (const auto& [key, text] : file["sources"].items()) {
    std::string pointer = "/" + key;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    EXPECT_TRUE(file.contains(nlohmann::json::json_pointer(pointer))) << "source of nothing: " << key;
  }
  EXPECT_GT(spec.num_multiprocessors, 0);
  EXPECT_EQ(load_cluster(spec.usual_cluster, "test").device, spec.name);
  // On tensor cores half the width is at least twice the rate.
  if (spec.peak_bf16.value > 0) {
    EXPECT_GE(spec.peak_bf16.value, 2 * spec.peak_tf32.value * 0.99);  // datasheets round
  }
  if (spec.peak_fp8.value > 0) {
    EXPECT_NEAR(spec.peak_fp8 / spec.peak_bf16, 2, 0.01);
  }
}
INSTANTIATE_TEST_SUITE_P(, Device, testing::ValuesIn(embedded_names("hardware")), [](const auto& row) {
  std::string name = row.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Devices, AllOfTheContractAreThere) {
  const std::vector<std::string> names = device_names();
  for (const char* name : {"cpu", "v100-sxm-32gb", "a100-sxm-40gb", "a100-sxm-80gb", "h100-sxm-80gb", "h100-sxm-96gb",
                           "h800-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "gb200", "gb300", "mi300x", "mi355x"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
}

// Published parameter counts (model cards), in billions, printed to the digits given.
struct ModelSize {
  const char* name;
  double billions, rounding;
};
class ModelPreset : public testing::TestWithParam<ModelSize> {};

TEST_P(ModelPreset, HasItsParameters) {
  const ModelConfig m =
      parse_job(
          {{"model", GetParam().name}, {"hardware", {{"device", "h100-sxm-80gb"}}}, {"training", {{"seq_len", 1024}}}},
          "test", "/")
          .model;
  const ParameterCounts counts = parameter_counts(m);
  EXPECT_NEAR((counts.total() - counts.multi_token) / 1e9, GetParam().billions, GetParam().rounding);
}
constexpr ModelSize kSizes[] = {{"mixtral-8x7b", 46.7, 0.05},
                                {"mixtral-8x22b", 140.6, 0.05},
                                {"qwen3-30b-a3b", 30.5, 0.05},
                                {"qwen3-235b-a22b", 235, 0.5},
                                {"olmoe-1b-7b", 6.9, 0.05},
                                {"m-moe-20b", 20.2, 0.05},
                                {"deepseek-v3", 671, 0.5},
                                {"deepseek-v2", 236, 0.5},
                                {"deepseek-v2-lite", 15.7, 0.05},
                                {"kimi-k2", 1026, 1},
                                {"grok-1", 314, 4},
                                {"llama4-maverick", 400, 2},
                                {"nemotron-4-340b", 341, 0.5},
                                {"llama3-8b", 8.03, 0.005},
                                {"llama3-70b", 70.6, 0.05},
                                {"llama3-405b", 405.9, 0.1},
                                {"gpt3-175b", 175, 0.5}};
INSTANTIATE_TEST_SUITE_P(, ModelPreset, testing::ValuesIn(kSizes), [](const auto& row) {
  std::string name = row.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Presets, EveryModelIsInTheTableAbove) { EXPECT_EQ(embedded_names("presets/models").size(), std::size(kSizes)); }

TEST(Presets, JobsLoad) {
  for (const std::string& name : embedded_names("presets/jobs")) {
    EXPECT_NO_THROW(parse_job(parse_json(*embedded_file("presets/jobs/" + name + ".json"), name), name, "/")) << name;
  }
}

TEST(Presets, EveryKindOfClusterHasAReadyJob) {
  std::set<std::string> clusters;
  for (const std::string& name : embedded_names("presets/jobs")) {
    const nlohmann::json job = parse_json(*embedded_file("presets/jobs/" + name + ".json"), name);
    clusters.insert(job["hardware"].value("cluster", ""));
  }
  for (const char* name : {"dgx-a100-80gb", "dgx-h100", "dgx-h200", "dgx-b200", "gb200-nvl72", "mi300x-8x"})
    EXPECT_TRUE(clusters.contains(name)) << name;
}

TEST(Presets, ClustersLoadAndNameKnownDevices) {
  for (const std::string& name : embedded_names("presets/clusters")) {
    const ClusterSpec cluster = load_cluster(name, "test");
    EXPECT_EQ(cluster.name, name);
    EXPECT_NO_THROW(load_device(cluster.device, "test")) << name;
    ASSERT_FALSE(cluster.levels.empty());
    EXPECT_EQ(cluster.levels[0].devices, cluster.devices_per_node) << name;
    EXPECT_EQ(cluster.levels[0].bandwidth, load_device(cluster.device, "test").link_bandwidth) << name;
    ASSERT_EQ(cluster.levels.size(), 2u) << name;
    EXPECT_LT(cluster.levels[1].bandwidth, cluster.levels[0].bandwidth) << name;
    EXPECT_GT(cluster.power_watt_per_device, load_device(cluster.device, "test").power_watt) << name;
    EXPECT_GT(cluster.hours_between_failures, 0) << name;
    const nlohmann::json file = parse_json(*embedded_file("presets/clusters/" + name + ".json"), name);
    for (const auto& [key, value] : file.items()) {
      if (value.is_number_float() || key.starts_with("hours") || key.starts_with("power")) {
        EXPECT_TRUE(file["sources"].contains(key)) << name << ": " << key << " has no source";
      }
    }
  }
}

}  // namespace
}  // namespace mmoe
