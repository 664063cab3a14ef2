#include <gtest/gtest.h>

#include <filesystem>

#include "sim/calibration/calibration.h"
#include "sim/units/errors.h"
#include "tests/sim/throughput/example_job.h"

namespace mmoe {
namespace {

Calibration example() {
  Calibration calibration = default_calibration(example_job().hardware.spec);
  calibration.covariance_names = {"gemm_efficiency", "step_factor"};
  calibration.covariance = {0.01, 0.002, 0.002, 0.04};
  calibration.source = "fitted to 12 records";
  return calibration;
}

TEST(CalibrationFile, RoundTrip) {
  const std::string path = testing::TempDir() + "calibration." + std::to_string(getpid()) + ".json";
  save_calibration(example(), path);
  const Calibration read = load_calibration(path);
  std::filesystem::remove(path);
  EXPECT_EQ(to_json(read), to_json(example()));
  EXPECT_EQ(read.covariance, example().covariance);
  EXPECT_EQ(read.value("overlap", Precision::kFp32), example().value("overlap", Precision::kFp32));
}

struct Hostile {
  const char* name;
  const char* pointer;
  nlohmann::json value;
  const char* message;
};

class HostileCalibration : public testing::TestWithParam<Hostile> {};

TEST_P(HostileCalibration, IsRefusedInOneLine) {
  nlohmann::json json = to_json(example());
  json[nlohmann::json::json_pointer(GetParam().pointer)] = GetParam().value;
  try {
    parse_calibration(json, "c.json");
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    EXPECT_TRUE(text.starts_with("c.json: ")) << text;
    EXPECT_NE(text.find(GetParam().message), std::string::npos) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(
    , HostileCalibration,
    testing::Values(
        Hostile{"version", "/schema_version", 9, "schema_version = 9 is not 1"},
        Hostile{"unknown_key", "/notes", "x", "notes is not a key"},
        Hostile{"above_bound", "/parameters/overlap/value", 1.5, "parameters.overlap.value = 1.5 is outside 0 .. 1"},
        Hostile{"bounds_swapped", "/parameters/overlap/high", -1, "parameters.overlap.high = -1 is outside"},
        Hostile{"no_number", "/parameters/overlap/value", "x", "parameters.overlap.value must be a number"},
        Hostile{"covariance_name", "/covariance/parameters/0", "gravity", "covariance.parameters must name parameters"},
        Hostile{"covariance_size", "/covariance/values", {1, 2, 3}, "covariance.values must hold 4 numbers"},
        Hostile{"negative_variance", "/covariance/values/0", -1, "covariance.values has a negative variance"},
        Hostile{"spread", "/spread/step_seconds", -0.1, "spread.step_seconds = -0.1 is outside"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(CalibrationFile, EveryParameterMustBeThere) {
  nlohmann::json json = to_json(example());
  json["parameters"].erase("cache_bytes");
  try {
    parse_calibration(json, "c.json");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "c.json: parameters.cache_bytes is missing");
  }
}

}  // namespace
}  // namespace mmoe
