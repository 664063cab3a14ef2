#include "sim/config/device_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

// A cluster read from a file of its own, as a user's is.
ClusterSpec cluster(const std::string& text) {
  const std::string path = testing::TempDir() + "/cluster.json";
  std::ofstream(path) << text;
  return load_cluster(path, "test");
}

void expect_error(const std::string& text, const std::string& part) {
  try {
    cluster(text);
    FAIL() << text << " should be an error";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(ClusterFile, LevelsHaveTheirDefaultLatencies) {
  const ClusterSpec spec = cluster(R"({"name": "mine", "devices_per_node": 8, "levels": [
      {"name": "node", "devices": 8, "bandwidth_one_way_gb_per_s": 448, "mesh": true},
      {"name": "pod", "devices": 256, "bandwidth_one_way_gb_per_s": 50, "latency_us": 5, "half_size_bytes": 1000},
      {"name": "cluster", "bandwidth_one_way_gb_per_s": 12.5}]})");
  ASSERT_EQ(spec.levels.size(), 3u);
  EXPECT_EQ(spec.devices_per_host, 8);
  EXPECT_TRUE(spec.levels[0].is_mesh);
  EXPECT_FALSE(spec.levels[0].switch_reduces);
  EXPECT_DOUBLE_EQ(spec.levels[0].latency.value, 3.4e-6);
  EXPECT_DOUBLE_EQ(spec.levels[1].latency.value, 5e-6);
  EXPECT_EQ(spec.levels[1].half_size, Bytes{1000});
  EXPECT_DOUBLE_EQ(spec.levels[2].latency.value, 14e-6);
}

TEST(ClusterFile, ErrorsNameTheKey) {
  expect_error(R"({"name": "a", "devices_per_node": 8, "devices_per_host": 3})", "devices_per_host = 3");
  expect_error(R"({"name": "a", "levels": [{"name": "node", "bandwidth_one_way_gb_per_s": 1, "mesh": true}]})",
               "levels[0].mesh");
  expect_error(R"({"name": "a", "levels": [{"name": "node", "bandwidth_one_way_gb_per_s": 0}]})", "above 0");
  expect_error(R"({"name": "a", "levels": [{}, {}, {}, {}, {}]})", "at most 4");
}

}  // namespace
}  // namespace mmoe
