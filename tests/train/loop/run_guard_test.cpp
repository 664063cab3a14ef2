// The guard of a run: what it does between steps, through a whole run on disk.

#include <gtest/gtest.h>

#include <fstream>
#include <numeric>

#include "sim/memory/step_memory.h"
#include "tests/train/loop/tiny_model.h"
#include "train/loop/run.h"

namespace mmoe {
namespace {

class RunGuard : public testing::Test {
 protected:
  RunGuard() : data_(folder_.file("tokens")) { build_tiny_data(folder_, data_); }

  static Job job() {
    return tiny_job(
        R"({"training": {"checkpoint_interval": 4}, "elastic": {"budget": {"kind": "at_most", "sum_k": 12}}})");
  }

  // A run whose predictions are this fraction of the true ones, with a limit just above the predicted worst draw.
  RunOptions options(const Job& job, double share, int64_t steps) const {
    RunOptions options;
    options.data = {WeighedPrefix{data_, 0}};
    options.out = folder_.file("guarded");
    options.total_steps = steps;
    options.predicted_peak = step_peak(job, {4, 4, 4}).total * share;
    RunOptions::Guard guard;
    guard.memory_limit = options.predicted_peak * 1.01;
    guard.predicted_step_peak = [job, share](const std::vector<std::vector<int>>& k_per_layer) {
      Bytes largest;
      for (const auto& k : k_per_layer) largest = std::max(largest, step_peak(job, k).total * share);
      return largest;
    };
    options.guard = guard;
    return options;
  }

  // The largest sum of k of each step.
  std::vector<int> largest_sums() const {
    std::vector<int> sums;
    std::ifstream file(folder_.file("guarded") + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      int largest = 0;
      for (const auto& k : nlohmann::json::parse(line).at("k_per_layer").get<std::vector<std::vector<int>>>()) {
        largest = std::max(largest, std::accumulate(k.begin(), k.end(), 0));
      }
      sums.push_back(largest);
    }
    return sums;
  }

  TemporaryFolder folder_;
  std::string data_;
};

TEST_F(RunGuard, SaysNothingWhilePredictionsHold) {
  testing::internal::CaptureStderr();
  train_run(job(), options(job(), 1, 4));
  EXPECT_EQ(testing::internal::GetCapturedStderr().find("guard"), std::string::npos);
}

TEST_F(RunGuard, WarnsWithoutTouchingTheRun) {
  testing::internal::CaptureStderr();
  train_run(job(), options(job(), 0.9, 8));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("guard: step 2: peaks up to +11.1 %"), std::string::npos) << said;  // 1 / 0.9
  const std::vector<int> sums = largest_sums();
  EXPECT_GT(*std::max_element(sums.begin() + 4, sums.end()), 5);
}

TEST_F(RunGuard, RetunesAtTheNextCheckpointAndResumesWithIt) {
  RunOptions first = options(job(), 0.9, 12);
  double asked = 0;
  first.guard->retune = [&](double ratio) {
    asked = ratio;
    return RunOptions::Guard::Retuned{Budget{BudgetKind::kAtMost, {3}, {5}, {}},
                                      step_peak(job(), {1, 1, 3}).total * 0.9};
  };
  testing::internal::CaptureStderr();
  train_run(job(), first);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NEAR(asked, 1 / 0.9, 0.002);  // the memory model is exact to its padding
  EXPECT_NE(said.find("guard: step 4: from the next step on the budget is at_most 5 (was at_most 12)"),
            std::string::npos)
      << said;
  const std::vector<int> sums = largest_sums();
  ASSERT_EQ(sums.size(), 12u);
  EXPECT_GT(*std::max_element(sums.begin(), sums.begin() + 4), 5);
  EXPECT_LE(*std::max_element(sums.begin() + 4, sums.end()), 5);
  std::filesystem::remove_all(folder_.file("guarded") + "/checkpoints/step_12");
  RunOptions again = first;
  again.resume = true;
  testing::internal::CaptureStderr();
  train_run(job(), again);
  testing::internal::GetCapturedStderr();
  EXPECT_EQ(largest_sums(), sums);
}

TEST_F(RunGuard, GoesOnWhereNoBudgetHelps) {
  RunOptions run = options(job(), 0.9, 4 + 1);
  run.guard->retune = [](double) { return std::nullopt; };
  testing::internal::CaptureStderr();
  EXPECT_EQ(train_run(job(), run), RunEnd::kFinished);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("no budget keeps the limit"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
