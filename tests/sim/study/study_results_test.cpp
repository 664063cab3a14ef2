#include "sim/study/study_results.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace mmoe {
namespace {

TEST(TokensToReach, InterpolatesInLogTokens) {
  const std::vector<std::pair<double, double>> curve = {{100, 5}, {400, 3}, {1600, 2}};
  EXPECT_DOUBLE_EQ(tokens_to_reach(curve, 3), 400);
  EXPECT_DOUBLE_EQ(tokens_to_reach(curve, 4), 200);   // half way between 100 and 400 in log tokens
  EXPECT_DOUBLE_EQ(tokens_to_reach(curve, 6), 100);   // there from the first point on
  EXPECT_DOUBLE_EQ(tokens_to_reach(curve, 1), 1600);  // never
}

class RunMeasurements : public testing::Test {
 protected:
  RunMeasurements()
      : path_((std::filesystem::temp_directory_path() /
               ("mmoe_study_" + std::to_string(testing::UnitTest::GetInstance()->random_seed()) + ".jsonl"))
                  .string()) {}
  ~RunMeasurements() override { std::filesystem::remove(path_); }
  void write(const std::string& text) { std::ofstream(path_) << text; }

  std::string path_;
};

TEST_F(RunMeasurements, LeaveTheFirstStepsPeakOut) {
  write(
      R"({"step":1,"k_per_layer":[[1,2]],"seconds":9,"peak_allocated_bytes":900,"replayed_reserved_bytes":{"default":999}}
{"step":2,"k_per_layer":[[3,4]],"seconds":1,"peak_allocated_bytes":100,"replayed_reserved_bytes":{"default":200}}
{"step":3,"k_per_layer":[[5,6]],"seconds":2,"peak_allocated_bytes":300,"replayed_reserved_bytes":{"default":400}}
)");
  const nlohmann::json json = run_measurements(path_, 3);
  EXPECT_DOUBLE_EQ(json.at("mean_k").get<double>(), 3.5);
  EXPECT_DOUBLE_EQ(json.at("/peak_allocated_bytes/mean"_json_pointer).get<double>(), 200);
  EXPECT_DOUBLE_EQ(json.at("/peak_allocated_bytes/max"_json_pointer).get<double>(), 300);
  EXPECT_DOUBLE_EQ(json.at("/peak_reserved_bytes/default/mean"_json_pointer).get<double>(), 300);
  EXPECT_EQ(step_seconds(path_, 1), (std::vector<double>{1, 2}));
  EXPECT_THROW(run_measurements(path_, 4), std::runtime_error);
}

// Two arms, two seeds, two evaluations, worked out by hand.
TEST(SummarizeDepth, PairsArmsBySeedAndRound) {
  BudgetStudy study;
  study.margin = 0.5;
  ResolvedArm baseline;
  baseline.name = "free";
  baseline.steps = 10;
  baseline.job.training.seq_len = 4;
  baseline.job.training.global_batch_size = 2;
  baseline.job.elastic.k_max = 2;
  baseline.job.model.num_layers = 1;
  baseline.job.model.num_experts = 2;
  baseline.predicted_peak = Summary{200, 0, 200, 200, 200};
  ResolvedArm arm = baseline;
  arm.name = "budget";
  arm.predicted_peak = Summary{150, 0, 150, 180, 180};
  const auto result = [](double peak, double loss_1, double loss_2) {
    const nlohmann::json summary = {{"mean", peak}, {"std", 0}, {"p50", peak}, {"p99", peak}, {"max", peak}};
    const auto evaluation = [](double tokens, double first, double second) {
      return nlohmann::json{{"tokens", tokens}, {"loss_by_k", {{"1", first}, {"2", second}}}};
    };
    return nlohmann::json{{"mean_k", 1.5},
                          {"peak_allocated_bytes", summary},
                          {"evaluations", {evaluation(10, 8, 8), evaluation(100, loss_1, loss_2)}}};
  };
  const std::map<std::string, std::map<int64_t, nlohmann::json>> results = {
      {"free", {{1, result(200, 4, 3)}, {2, result(200, 4.5, 3)}}},
      {"budget", {{1, result(100, 4.1, 3)}, {2, result(150, 4.7, 3)}}}};
  const nlohmann::json timing = {{{"round", 0}, {"arm", "free"}, {"seconds", {1.0, 3.0}}},
                                 {{"round", 0}, {"arm", "budget"}, {"seconds", {1.0, 1.0}}},
                                 {{"round", 1}, {"arm", "free"}, {"seconds", {2.0, 2.0}}},
                                 {{"round", 1}, {"arm", "budget"}, {"seconds", {2.0, 2.0}}}};
  const nlohmann::json depth = summarize_depth(study, {baseline, arm}, results, timing);
  const nlohmann::json& entry = depth.at("arms")[1];
  EXPECT_DOUBLE_EQ(entry.at("/predicted/saving/mean"_json_pointer).get<double>(), 0.25);
  EXPECT_DOUBLE_EQ(entry.at("/predicted/saving/p99"_json_pointer).get<double>(), 0.1);
  EXPECT_DOUBLE_EQ(entry.at("/measured/peak_allocated_bytes/saving/mean/mean"_json_pointer).get<double>(), 0.375);
  EXPECT_DOUBLE_EQ(entry.at("/quality/worst_k_loss"_json_pointer).get<double>(), 4.4);
  EXPECT_NEAR(entry.at("/quality/worst_k_difference/mean"_json_pointer).get<double>(), 0.15, 1e-12);
  EXPECT_DOUBLE_EQ(entry.at("/quality/difference_by_k/2/mean"_json_pointer).get<double>(), 0);
  // Mean 0.15, deviation 0.0707, error 0.05: the bound 0.15 + t_0.95 (6.314, one degree) * 0.05 = 0.466.
  EXPECT_EQ(entry.at("/quality/verdict"_json_pointer).get<std::string>(), "competitive");
  // Seed 1: both reach 4.1, the baseline at 10 * 10^((8 - 4.1) / 4); seed 2: both reach 4.7, by (8 - 4.7) / 3.5.
  const double first = 100 / (10 * std::pow(10, 3.9 / 4)), second = 100 / (10 * std::pow(10, 3.3 / 3.5));
  EXPECT_NEAR(entry.at("/quality/tokens_ratio/mean"_json_pointer).get<double>(), (first + second) / 2, 1e-12);
  EXPECT_DOUBLE_EQ(entry.at("/timing/speed_ratio/mean"_json_pointer).get<double>(), 1.5);  // 2 / 1 and 2 / 2
  EXPECT_DOUBLE_EQ(entry.at("/timing/tokens_per_second"_json_pointer).get<double>(), 8 / 1.5);
  EXPECT_DOUBLE_EQ(depth.at("/arms/0/quality/worst_k_difference/mean"_json_pointer).get<double>(), 0);
}

}  // namespace
}  // namespace mmoe
