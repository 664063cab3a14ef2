#include "sim/validation/own_run.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "sim/cli/calibration_flag.h"
#include "sim/memory/step_memory.h"
#include "sim/plan/trainer_memory.h"
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

// Two expert-parallel ranks whose peaks are 0.8 of what their rows say.
class OwnRanks : public testing::Test {
 protected:
  OwnRanks() {
    std::filesystem::create_directories(folder / "ranks");
    const nlohmann::json json = nlohmann::json::parse(R"({
      "model": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 256, "num_experts": 8,
                "expert_hidden_size": 32},
      "hardware": {"device": "cpu", "num_devices": 2}, "parallelism": {"expert": 2},
      "training": {"seq_len": 32, "micro_batch_size": 2, "global_batch_size": 4, "precision": "fp32"},
      "elastic": {"k_min": 1, "k_max": 6}})");
    std::ofstream(folder / "job.json") << json;
    job = own_run_job(folder.string());
    std::ofstream metrics(folder / "metrics.jsonl"), ranks[] = {log(0), log(1)};
    for (int step = 1; step <= 8; ++step) {
      const std::vector<std::vector<int>> k = {{1 + step % 6, 6}, {2, 1 + step % 5}};  // of both replicas
      metrics << nlohmann::json{{"step", step}, {"seconds", 1}, {"peak_allocated_bytes", 1}, {"k_per_layer", k}}.dump()
              << '\n';
      for (int64_t rank = 0; rank < 2; ++rank) {
        // 64 tokens of each rank; the first rank gets more than half of their pairs.
        const auto rows = [&](int64_t layer) {
          const double pairs = 64.0 * (k[0][static_cast<size_t>(layer)] + k[1][static_cast<size_t>(layer)]);
          return rank == 0 ? pairs / 2 + 10 + step : pairs / 2 - 10 - step;
        };
        const RoutedPairsOf routed = [&](int64_t, int64_t layer) { return RoutedPairs{rows(layer), rows(layer)}; };
        const double peak = 0.8 * trainer_rank_peak(job, rank, k, routed).total.value;
        ranks[rank] << nlohmann::json{{"step", step},
                                      {"peak_allocated_bytes", peak},
                                      {"routed_pairs", {{{rows(0), rows(0)}, {rows(1), rows(1)}}}}}
                           .dump()
                    << '\n';
      }
    }
  }
  ~OwnRanks() override { std::filesystem::remove_all(folder); }

  std::filesystem::path log(int rank) const {
    return folder / "ranks" / ("rank_0000" + std::to_string(rank) + ".jsonl");
  }
  ValidationReport report() const { return validate_own_ranks(folder.string(), job, framework_for("", job)); }
  std::string refusal_with(const std::string& line) const {
    std::ofstream file(log(1));
    for (int step = 1; step <= 8; ++step) file << line << '\n';
    file.close();
    try {
      report();
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  }

  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("own_ranks_" + std::to_string(::getpid()));
  Job job;
};

TEST_F(OwnRanks, ComparesEveryRankAtTheRowsThatCameToIt) {
  const ValidationReport found = report();
  EXPECT_EQ(found.num_runs, 3);
  EXPECT_EQ(found.rows.size(), 9U);  // of each step its time and two peaks
  for (const ScoredRow& row : found.rows) {
    if (row.quantity != "peak_allocated_bytes") continue;
    EXPECT_NEAR(row.predicted / row.measured, 1.25, 1e-12) << row.id;  // to the digits that JSON keeps
  }
  EXPECT_EQ(found.rows.back().id, "step_8_rank_1");
}

TEST_F(OwnRanks, NamesTheLogThatIsWrong) {
  const std::string start = R"({"step": 6, "peak_allocated_bytes": 1)";
  EXPECT_NE(refusal_with(start + "}").find("rank_00001.jsonl:6: is no step as mmoe train --rank-logs writes it"),
            std::string::npos);
  EXPECT_NE(refusal_with(start + R"(, "routed_pairs": [[[1, 1]]]})").find("routed_pairs does not match"),
            std::string::npos);
  EXPECT_NE(refusal_with(R"({"step": 1, "peak_allocated_bytes": 1, "routed_pairs": []})").find("from the run's first"),
            std::string::npos);
  std::filesystem::remove(log(0));
  EXPECT_NE(refusal_with("{}").find("train with --rank-logs"), std::string::npos);
}

TEST_F(OwnRanks, LeavesJobsThatNoRankIsPredictedOf) {
  nlohmann::json json = nlohmann::json::parse(std::ifstream(folder / "job.json"));
  json["hardware"] = {{"device", "h100-sxm-80gb"}, {"num_devices", 2}};
  std::ofstream(folder / "job.json") << json;
  EXPECT_THROW(own_run_job(folder.string()), ConfigError);
}

}  // namespace
}  // namespace mmoe
