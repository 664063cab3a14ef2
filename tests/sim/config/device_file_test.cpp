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

TEST(ClusterFile, MeasuredCollectivesAreRead) {
  const ClusterSpec spec = cluster(R"({"name": "mine", "levels": [{"name": "node", "bandwidth_one_way_gb_per_s": 100,
      "measured": [{"collective": "all_to_all", "num_ranks": 8, "size_bytes": [1024, 1048576],
                    "bus_bandwidth_gb_per_s": [0.05, 80]}]}]})");
  ASSERT_EQ(spec.levels[0].measured.size(), 1u);
  const MeasuredCollective& measured = spec.levels[0].measured[0];
  EXPECT_EQ(measured.collective, Collective::kAllToAll);
  EXPECT_EQ(measured.num_ranks, 8);
  EXPECT_EQ(measured.sizes[1], Bytes{1048576});
  EXPECT_EQ(measured.bus_bandwidths[0], gb_per_s(0.05));
}

TEST(ClusterFile, ErrorsOfMeasuredCollectivesNameTheKey) {
  const auto level = [](const std::string& measured) {
    return R"({"name": "a", "levels": [{"name": "node", "bandwidth_one_way_gb_per_s": 1, "measured": [)" + measured +
           "]}]}";
  };
  expect_error(level("{}"), "levels[0].measured[0].collective is missing");
  const std::string start = R"({"collective": "all_reduce", "num_ranks": 8, "size_bytes": )";
  expect_error(level(start + R"([1, 2], "bus_bandwidth_gb_per_s": [1]})"), "one number a size");
  expect_error(level(start + R"([2, 1], "bus_bandwidth_gb_per_s": [1, 1]})"), "must rise");
  expect_error(level(start + R"([1, 2], "bus_bandwidth_gb_per_s": [0, 1]})"), "above 0");
  expect_error(level(R"({"collective": "all", "num_ranks": 8, "size_bytes": [1], "bus_bandwidth_gb_per_s": [1]})"),
               "all_to_all");
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
