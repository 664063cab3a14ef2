#include "profiles/store/profile.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

Profile example() {
  Profile profile;
  profile.machine = {.device = "cpu",
                     .processor = "AMD EPYC",
                     .cores = 2,
                     .threads = 2,
                     .libtorch = "2.9.0",
                     .cuda = "",
                     .driver = "",
                     .commit = "abc"};
  profile.jobs = {nlohmann::json{{"model", "x"}}, nlohmann::json::object()};
  profile.peaks.stream_bandwidth = gb_per_s(43.8);
  profile.peaks.matmul_rate = {{"fp32", FlopsPerSecond{2.17e11}}, {"bf16", FlopsPerSecond{9.2e11}}};
  profile.operations = {{.job = 1,
                         .operation = "experts",
                         .phase = "backward",
                         .layer = 3,
                         .k = 2,
                         .seconds = {Seconds{0.002}, Seconds{0.0019}, Seconds{0.0023}, 9},
                         .kept = Bytes{-4096},
                         .transient = Bytes{1048576}}};
  profile.steps = {{.job = 0,
                    .k_per_layer = {{1, 2}, {3, 1}},
                    .seconds = {Seconds{0.5}, Seconds{0.4}, Seconds{0.6}, 5},
                    .peak_allocated = Bytes{1e9},
                    .predicted_peak_allocated = Bytes{0.99e9}},
                   {.job = 1,
                    .k_per_layer = {{}},
                    .seconds = {Seconds{0.5}, Seconds{0.5}, Seconds{0.5}, 1},
                    .peak_allocated = Bytes{2e9},
                    .predicted_peak_allocated = std::nullopt}};
  profile.collectives = {{.job = 0,
                          .collective = "all_to_all",
                          .group = "expert",
                          .group_size = 4,
                          .within_node = false,
                          .calls = 96,
                          .bytes_per_call = Bytes{65536},
                          .seconds = {Seconds{2e-4}, Seconds{1e-4}, Seconds{3e-4}, 7}}};
  return profile;
}

TEST(Profile, RoundTrip) {
  const std::string path = testing::TempDir() + "profile." + std::to_string(getpid()) + ".json";
  save_profile(example(), path);
  const Profile read = load_profile(path);
  std::filesystem::remove(path);
  // Rates go through a division and a multiplication by 1e9: one unit in the last place each.
  EXPECT_DOUBLE_EQ(read.peaks.stream_bandwidth.value, 43.8e9);
  EXPECT_DOUBLE_EQ(read.peaks.matmul_rate.at("bf16").value, 9.2e11);
  EXPECT_EQ(read.machine.processor, "AMD EPYC");
  ASSERT_EQ(read.operations.size(), 1u);
  EXPECT_EQ(read.operations[0].operation, "experts");
  EXPECT_EQ(read.operations[0].seconds.p90.value, 0.0023);
  EXPECT_EQ(read.operations[0].kept.value, -4096);
  ASSERT_EQ(read.steps.size(), 2u);
  EXPECT_EQ(read.steps[0].k_per_layer, (std::vector<std::vector<int>>{{1, 2}, {3, 1}}));
  EXPECT_EQ(read.steps[0].predicted_peak_allocated->value, 0.99e9);
  EXPECT_FALSE(read.steps[1].predicted_peak_allocated.has_value());
  ASSERT_EQ(read.collectives.size(), 1u);
  EXPECT_EQ(read.collectives[0].group, "expert");
  EXPECT_FALSE(read.collectives[0].within_node);
  EXPECT_EQ(read.collectives[0].calls, 96);
  EXPECT_EQ(read.collectives[0].bytes_per_call.value, 65536);
  EXPECT_EQ(read.collectives[0].seconds.p10.value, 1e-4);
  EXPECT_EQ(to_json(read), to_json(example()));
}

struct Hostile {
  const char* name;
  const char* pointer;  // JSON pointer
  nlohmann::json value;
  const char* message;
};

class HostileProfile : public testing::TestWithParam<Hostile> {};

TEST_P(HostileProfile, IsRefusedInOneLine) {
  nlohmann::json json = to_json(example());
  json[nlohmann::json::json_pointer(GetParam().pointer)] = GetParam().value;
  try {
    parse_profile(json, "p.json");
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    EXPECT_TRUE(text.starts_with("p.json: ")) << text;
    EXPECT_NE(text.find(GetParam().message), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(
    , HostileProfile,
    testing::Values(
        Hostile{"version", "/schema_version", 2, "schema_version = 2 is not 1"},
        Hostile{"unknown_key", "/machine/cpus", 2, "machine.cpus is not a key"},
        Hostile{"no_device", "/machine/device", "", "machine.device must not be empty"},
        Hostile{"job_index", "/operations/0/job", 2, "operations[0].job = 2 is outside 0 .. 1"},
        Hostile{"negative_time", "/operations/0/seconds/median", -1, "operations[0].seconds.median = -1 is outside"},
        Hostile{"percentiles", "/operations/0/seconds/p90", 0.001, "operations[0].seconds.p90 is below median"},
        Hostile{"repetitions", "/operations/0/repetitions", 0, "operations[0].repetitions = 0 is outside"},
        Hostile{"phase", "/operations/0/phase", "sideways", "operations[0].phase = \"sideways\" is none of"},
        Hostile{"layer", "/operations/0/layer", 1.5, "operations[0].layer must be a whole number"},
        Hostile{"ragged_draw", "/steps/0/k_per_layer/1", nlohmann::json::array(), "steps[0].k_per_layer must have"},
        Hostile{"text_draw", "/steps/0/k_per_layer/1/0", "2", "steps[0].k_per_layer must hold whole numbers"},
        Hostile{"no_draw", "/steps/0/k_per_layer", nlohmann::json::array(), "at least one micro-batch"},
        Hostile{"bytes", "/steps/0/peak_allocated_bytes", 1e30, "steps[0].peak_allocated_bytes = 1e+30 is outside"},
        Hostile{"no_jobs", "/jobs", nlohmann::json::array(), "jobs must hold at least one job"},
        Hostile{"job_text", "/jobs/0", "job.json", "jobs[0] must be an object"},
        Hostile{"collective", "/collectives/0/collective", "all_too_all", "collective = \"all_too_all\" is none of"},
        Hostile{"one_rank", "/collectives/0/group_size", 1, "collectives[0].group_size = 1 is outside"},
        Hostile{"node_text", "/collectives/0/within_node", "yes", "collectives[0].within_node must be true or false"},
        Hostile{"no_bytes", "/collectives/0/bytes_per_call", 0, "collectives[0].bytes_per_call = 0 is outside"},
        Hostile{"no_time",
                "/collectives/0/seconds",
                {{"median", 0}, {"p10", 0}, {"p90", 0}},
                "collectives[0].seconds.median must be above 0"},
        Hostile{"rate", "/peaks/matmul_gflop_per_s/fp12", 5, "peaks.matmul_gflop_per_s.fp12 is not a key"}),
    [](const auto& row) { return std::string(row.param.name); });

// Profiles of one device, and those of before collectives were measured, have none.
TEST(Profile, CollectivesMayBeLeftOut) {
  nlohmann::json json = to_json(example());
  json.erase("collectives");
  const Profile read = parse_profile(json, "p.json");
  EXPECT_TRUE(read.collectives.empty());
  EXPECT_EQ(to_json(read), json);
}

TEST(Profile, MissingKeyIsNamed) {
  nlohmann::json json = to_json(example());
  json["steps"][1].erase("seconds");
  try {
    parse_profile(json, "p.json");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "p.json: steps[1].seconds is missing");
  }
}

}  // namespace
}  // namespace mmoe
