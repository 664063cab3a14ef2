#include "sim/cli/loop_summary.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json plan(double peak, double median_peak, double step_seconds) {
  return {{"memory", {{"peak_allocated_bytes", peak}}},
          {"throughput", {{"step_seconds", step_seconds}}},
          {"elastic", {{"peak_allocated_bytes", {{"p50", median_peak}}}}}};
}

class LoopSummaryTest : public testing::Test {
 protected:
  void SetUp() override {
    run_ = testing::TempDir() + "loop_summary_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(run_);
    fs::create_directories(run_);
    write("plan.json", plan(1200, 900, 3));
    write("plan_calibrated.json", plan(1010, 808, 1.8));
    write("eval.json", {{"split", "valid"},
                        {"tokens", 50},
                        {"loss_by_k", {{"1", 3.0}, {"2", 2.5}, {"10", 2.0}}},
                        {"bits_per_byte_by_k", {{"1", 1.5}, {"2", 1.25}, {"10", 1.0}}}});
    write("allocation.json",
          {{"k_per_layer", {1, 3}}, {"verified_loss", 2.4}, {"uniform_loss", 2.45}, {"interval", {-0.08, -0.02}}});
    write("tokens.json",
          {{"unigram_entropy_bits_per_byte", 2.5}, {"splits", {{"train", {{"tokens", 1000}, {"bytes", 4000}}}}}});
    // 30 steps: the first is slow and large and must not count; from step 4 on (a tenth is warm-up) 2 s, step 20 is 9
    // s.
    std::ofstream metrics(run_ + "/metrics.jsonl");
    for (int step = 1; step <= 30; ++step) {
      const double seconds = step <= 3 ? 50 : step == 20 ? 9 : 2;
      const double peak = step == 1 ? 5000 : step == 7 ? 1000 : 800;
      metrics << json({{"step", step},
                       {"tokens", 16 * step},
                       {"loss", 5 - 0.1 * step},
                       {"seconds", seconds},
                       {"peak_allocated_bytes", peak}})
              << '\n';
    }
  }
  void TearDown() override { fs::remove_all(run_); }

  void write(const std::string& name, const json& content) { std::ofstream(run_ + "/" + name) << content; }
  json summary() { return summarize_run(parse_job(job_, "job.json", run_), run_, run_ + "/tokens"); }
  std::string printed() {
    std::ostringstream out;
    print_summary(summary(), out);
    return out.str();
  }

  std::string run_;
  json job_ = {{"model",
                {{"hidden_size", 16},
                 {"num_layers", 2},
                 {"num_heads", 2},
                 {"vocab_size", 300},
                 {"num_experts", 4},
                 {"expert_hidden_size", 8}}},
               {"hardware", {{"device", "cpu"}}},
               {"training", {{"seq_len", 8}, {"global_batch_size", 2}, {"precision", "fp32"}}},
               {"elastic", {{"k_min", 1}, {"k_max", 2}}}};
};

TEST_F(LoopSummaryTest, PeakIsTheLargestFromTheSecondStepOn) {
  const json peak = summary()["peak_allocated_bytes"];
  EXPECT_EQ(peak["measured"], 1000);
  EXPECT_DOUBLE_EQ(peak["error_fraction_before"].get<double>(), 1.2 - 1);
  EXPECT_DOUBLE_EQ(peak["error_fraction_after"].get<double>(), 1.01 - 1);
  const json median = summary()["median_step_peak_allocated_bytes"];
  EXPECT_EQ(median["measured"], 800);
  EXPECT_DOUBLE_EQ(median["error_fraction_after"].get<double>(), 1.01 - 1);
}

TEST_F(LoopSummaryTest, StepSecondsAreTheMedianAfterWarmUp) {
  const json step = summary()["step_seconds"];
  EXPECT_EQ(step["first_timed_step"], 4);
  EXPECT_EQ(step["measured"], 2);
  EXPECT_EQ(step["measured_p90"], 2);
  EXPECT_DOUBLE_EQ(step["error_fraction_after"].get<double>(), 1.8 / 2 - 1);
}

// 85 steps after ten of warm-up, in four parts of 21 or 22: the last one takes 1.2 times as long. A single slow step
// is none of the machine.
TEST_F(LoopSummaryTest, SaysWhereTheMachineChangedItsSpeed) {
  const auto run_of = [&](double last_part) {
    std::ofstream metrics(run_ + "/metrics.jsonl");
    for (int step = 1; step <= 95; ++step) {
      const double seconds = step <= 10 ? 50 : step == 40 ? 9 : step > 74 ? last_part : 2;
      metrics << json({{"step", step},
                       {"tokens", 16 * step},
                       {"loss", 1},
                       {"seconds", seconds},
                       {"peak_allocated_bytes", 800}})
              << '\n';
    }
  };
  run_of(2.4);
  EXPECT_EQ(summary()["step_seconds"]["measured_by_part"], (json{2.0, 2.0, 2.0, 2.4}));
  EXPECT_NE(printed().find("a part of the run took 2.000 s a step, another 2.400 s"), std::string::npos) << printed();
  run_of(2.1);
  EXPECT_EQ(printed().find("The machine"), std::string::npos);
}

TEST_F(LoopSummaryTest, TextConvertsNatsToBits) {
  // 1000 tokens in 4000 bytes: one nat per token is 1 / (4 ln 2) = 0.36067376 bits per byte.
  EXPECT_NEAR(summary()["text"]["bits_per_byte_of_nat"].get<double>(), 0.36067376, 5e-9);
}

TEST_F(LoopSummaryTest, KeepsLossesAndAllocation) {
  EXPECT_EQ(summary()["evaluation"]["loss_by_k"]["10"], 2.0);
  EXPECT_EQ(summary()["allocation"]["k_per_layer"], json({1, 3}));
  EXPECT_FALSE(summary().contains("budget"));
}

TEST_F(LoopSummaryTest, HoldsTheLawOfTheSum) {
  // Two layers, k in {1, 2}: sums 2, 3, 4 with 1/4, 1/2, 1/4; at most 3 leaves 2 and 3 with 1/3 and 2/3.
  job_["elastic"]["budget"] = {{"kind", "at_most"}, {"sum_k", 3}};
  write("budget.json", {{"front", json::array()}});
  const json laws = summary()["sum_k"];
  EXPECT_EQ(laws["groups"], json({2}));
  const std::vector<double> without = {0.25, 0.5, 0.25}, with = {1.0 / 3, 2.0 / 3};
  ASSERT_EQ(laws["without"][0].size(), 3u);
  ASSERT_EQ(laws["with"][0].size(), 2u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(laws["without"][0][i][0], 2 + static_cast<int>(i));
    EXPECT_NEAR(laws["without"][0][i][1].get<double>(), without[i], 1e-14);  // a handful of operations on doubles
  }
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(laws["with"][0][i][1].get<double>(), with[i], 1e-14);
}

TEST_F(LoopSummaryTest, TakesTheOwnBudgetFromTheFront) {
  job_["elastic"]["budget"] = {{"kind", "at_most"}, {"sum_k", 3}};
  const auto point = [](int bound, double saving) {
    return json{{"budget", {{"kind", "at_most"}, {"groups", {2}}, {"sum_k", {bound}}}},
                {"saving_fraction", {{"p99", saving}}}};
  };
  write("budget.json", {{"front", {point(2, 0.2), point(3, 0.07), point(4, 0)}}});
  EXPECT_EQ(summary()["budget"]["saving_fraction"]["p99"], 0.07);
  EXPECT_EQ(summary()["budget"]["sum_k"], json({3}));
  EXPECT_NE(printed().find("predicted to save 7.0 % of the unbudgeted peak"), std::string::npos) << printed();
  write("budget.json", {{"front", {point(2, 0.2)}}});
  EXPECT_FALSE(summary()["budget"].contains("saving_fraction"));
  EXPECT_NE(printed().find("held every draw."), std::string::npos) << printed();
}

TEST_F(LoopSummaryTest, OneStepIsEnough) {
  std::ofstream(run_ + "/metrics.jsonl")
      << R"({"step": 1, "tokens": 8, "loss": 5, "seconds": 2, "peak_allocated_bytes": 70})" << '\n';
  EXPECT_EQ(summary()["peak_allocated_bytes"]["measured"], 70);
  EXPECT_EQ(summary()["step_seconds"]["measured"], 2);
}

TEST_F(LoopSummaryTest, AMissingKeyNamesFileAndKey) {
  write("plan.json", {{"memory", json::object()}});
  try {
    summary();
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("plan.json: key memory/peak_allocated_bytes is missing"),
              std::string::npos)
        << error.what();
  }
}

TEST_F(LoopSummaryTest, AMissingFileIsTheUsersMistake) {
  fs::remove(run_ + "/eval.json");
  EXPECT_THROW(summary(), ConfigError);
}

TEST_F(LoopSummaryTest, PrintsKInRisingOrderAndTheErrors) {
  const std::string text = printed();
  EXPECT_LT(text.find("1.250"), text.find("1.000"));  // k = 2 before k = 10
  EXPECT_NE(text.find("(+20.0 %)"), std::string::npos) << text;
  EXPECT_NE(text.find("(-10.0 %)"), std::string::npos) << text;
  EXPECT_NE(text.find("at least 2.500"), std::string::npos) << text;
}

TEST_F(LoopSummaryTest, TheVerdictFollowsTheInterval) {
  const auto verdict_for = [&](double low, double high) {
    write("allocation.json",
          {{"k_per_layer", {1, 3}}, {"verified_loss", 2.4}, {"uniform_loss", 2.45}, {"interval", {low, high}}});
    return printed();
  };
  EXPECT_NE(verdict_for(-0.08, -0.02).find("it is better"), std::string::npos);
  EXPECT_NE(verdict_for(-0.08, 0.02).find("uniform is as good"), std::string::npos);
  EXPECT_NE(verdict_for(0.01, 0.02).find("uniform is better"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
