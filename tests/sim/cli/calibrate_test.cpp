#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "sim/cli/commands.h"
#include "tests/sim/calibration/synthetic_profile.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;

nlohmann::json job_json(int hidden_size, int num_layers) {
  return {{"model",
           {{"hidden_size", hidden_size},
            {"num_layers", num_layers},
            {"num_heads", 4},
            {"vocab_size", 512},
            {"num_experts", 8},
            {"expert_hidden_size", hidden_size / 2}}},
          {"hardware", {{"device", "cpu"}}},
          {"training", {{"seq_len", 64}, {"micro_batch_size", 2}, {"global_batch_size", 4}, {"precision", "fp32"}}},
          {"elastic", {{"k_min", 1}, {"k_max", 6}}}};
}

class Calibrate : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("calibrate." + std::to_string(getpid()));
    fs::create_directories(folder_);
    std::vector<Job> jobs;
    for (const auto& [hidden, layers] : {std::pair{64, 2}, std::pair{128, 3}, std::pair{256, 2}}) {
      jobs.push_back(parse_job(job_json(hidden, layers), "job", ""));
    }
    Calibration truth = default_calibration(jobs[0].hardware.spec);
    truth.find("step_factor")->value = 1.3;
    truth.find("call_overhead")->value = 1e-5;
    ProfiledJobs profiled = synthetic_profile(truth, jobs, 0.01);
    for (size_t i = 0; i < jobs.size(); ++i) profiled.profile.jobs[i] = to_json(jobs[i]);
    save_profile(profiled.profile, path("profile.json"));
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const char* name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

TEST_F(Calibrate, WritesACalibrationAndJson) {
  testing::internal::CaptureStdout();
  const ExitCode code =
      calibrate_command({"--profile", path("profile.json"), "--out", path("calibration.json"), "--json"});
  const nlohmann::json result = nlohmann::json::parse(testing::internal::GetCapturedStdout());
  EXPECT_EQ(code, ExitCode::kDone);
  const double before = result.at("before").at("step_seconds").at("mean_absolute_error_fraction");
  const double after = result.at("after").at("step_seconds").at("mean_absolute_error_fraction");
  EXPECT_LT(after, before);
  EXPECT_LT(after, 0.05);
  EXPECT_EQ(to_json(load_calibration(path("calibration.json"))), result.at("calibration"));
}

TEST_F(Calibrate, PrintsATable) {
  testing::internal::CaptureStdout();
  calibrate_command({"--profile", path("profile.json"), "--out", path("calibration.json")});
  const std::string text = testing::internal::GetCapturedStdout();
  for (const char* words : {"records that were not fitted", "step_seconds", "operation_seconds", "gemm_efficiency.fp32",
                            "job 2 of 3", "Wrote "}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
}

TEST_F(Calibrate, TakesSeveralProfiles) {
  testing::internal::CaptureStdout();
  calibrate_command({"--profile", path("profile.json"), path("profile.json"), "--out", path("c.json"), "--json"});
  const nlohmann::json result = nlohmann::json::parse(testing::internal::GetCapturedStdout());
  EXPECT_EQ(result.at("held_out"), (std::vector<std::string>{"job 2 of 6", "job 5 of 6"}));
}

TEST_F(Calibrate, BadInputLeavesNoFile) {
  std::ofstream(path("cut.json")) << "{\"schema_version\": 1, \"jobs\": [";
  EXPECT_THROW(calibrate_command({"--profile", path("cut.json"), "--out", path("c.json")}), ConfigError);
  EXPECT_THROW(calibrate_command({"--profile", path("none.json"), "--out", path("c.json")}), ConfigError);
  EXPECT_THROW(calibrate_command({"--out", path("c.json")}), ConfigError);
  EXPECT_FALSE(fs::exists(path("c.json")));
  EXPECT_THROW(calibrate_command({"--profile", path("profile.json"), "--out", path("none/c.json")}), ConfigError);
}

}  // namespace
}  // namespace mmoe
