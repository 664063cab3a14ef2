#include "sim/validation/own_run.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "sim/memory/step_memory.h"
#include "sim/throughput/step_time.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

// A run folder whose steps took 1.25 times the predicted time and 0.8 of the predicted memory.
class OwnRun : public testing::Test {
 protected:
  OwnRun() {
    std::filesystem::create_directories(folder);
    const nlohmann::json json = nlohmann::json::parse(R"({
      "model": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 256, "num_experts": 8,
                "expert_hidden_size": 32},
      "hardware": {"device": "cpu"},
      "training": {"seq_len": 32, "micro_batch_size": 2, "global_batch_size": 4, "precision": "fp32"},
      "elastic": {"k_min": 1, "k_max": 6}})");
    job = parse_job(json, "job.json", ".");
    std::ofstream(folder / "job.json") << json;
    calibration = default_calibration(job.hardware.spec);
    const StepTimeModel times(job, calibration);
    for (int step = 1; step <= 30; ++step) {
      const std::vector<std::vector<int>> k = {{1 + step % 6, 6}, {2, 1 + step % 5}};
      double peak = 0;
      for (const auto& one : k) {
        peak = std::max(peak, step_peak(job, one).total.value + calibration.framework_overhead().value);
      }
      lines.push_back(nlohmann::json{
          {"step", step},
          {"seconds", 1.25 * times.step_seconds(k).value},
          {"peak_allocated_bytes", 0.8 * peak},
          {"k_per_layer",
           k}}.dump());
    }
    write(lines);
  }
  ~OwnRun() override { std::filesystem::remove_all(folder); }

  void write(const std::vector<std::string>& text) const {
    std::ofstream file(folder / "metrics.jsonl");
    for (const std::string& line : text) file << line << '\n';
  }
  std::string refusal() const {
    try {
      validate_own_run(folder.string(), job, calibration);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  }

  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("own_run_" + std::to_string(::getpid()));
  Job job;
  Calibration calibration;
  std::vector<std::string> lines;
};

TEST_F(OwnRun, ComparesEveryStepAfterWarmUpAtTheKThatItDrew) {
  const ValidationReport report = validate_own_run(folder.string(), own_run_job(folder.string()), calibration);
  EXPECT_EQ(report.num_runs, 25);
  EXPECT_EQ(report.rows.size(), 50U);
  const auto scores = summary(report);
  // To the digits that JSON keeps.
  EXPECT_NEAR(scores.at("step_seconds").mean_absolute_error_fraction, 0.2, 1e-12);
  EXPECT_NEAR(scores.at("step_seconds").max_absolute_error_fraction, 0.2, 1e-12);
  EXPECT_NEAR(scores.at("peak_allocated_bytes").bias_fraction, 0.25, 1e-12);
  EXPECT_EQ(summary_by_stratum(report).size(), 3U);
  EXPECT_EQ(report.coverage(), 1);
}

TEST_F(OwnRun, NamesTheLineThatIsWrong) {
  std::vector<std::string> broken = lines;
  broken[7] = "{";
  write(broken);
  EXPECT_NE(refusal().find("metrics.jsonl:8"), std::string::npos) << refusal();
  broken[7] = R"({"step": 8})";
  write(broken);
  EXPECT_NE(refusal().find("metrics.jsonl:8: is no step"), std::string::npos) << refusal();
  broken[7] = R"({"step": 8, "seconds": 1, "peak_allocated_bytes": 1, "k_per_layer": [[1, 9], [1, 1]]})";
  write(broken);
  EXPECT_NE(refusal().find("k_per_layer does not match"), std::string::npos) << refusal();
  write({lines[0]});
  EXPECT_NE(refusal().find("warm-up"), std::string::npos) << refusal();
  std::filesystem::remove(folder / "metrics.jsonl");
  EXPECT_NE(refusal().find("cannot be read"), std::string::npos) << refusal();
}

}  // namespace
}  // namespace mmoe
