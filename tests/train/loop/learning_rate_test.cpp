#include "train/loop/learning_rate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mmoe {
namespace {

TrainingConfig training(LearningRateSchedule schedule, int64_t warmup_steps) {
  TrainingConfig config;
  config.learning_rate = 2;
  config.schedule = schedule;
  config.warmup_steps = warmup_steps;
  return config;
}

TEST(LearningRate, WarmsUpLinearly) {
  for (const auto schedule :
       {LearningRateSchedule::kCosine, LearningRateSchedule::kWsd, LearningRateSchedule::kConstant}) {
    const TrainingConfig config = training(schedule, 10);
    EXPECT_DOUBLE_EQ(learning_rate(config, 1, 110), 0.2);
    EXPECT_DOUBLE_EQ(learning_rate(config, 5, 110), 1);
    EXPECT_DOUBLE_EQ(learning_rate(config, 10, 110), 2);
  }
}

TEST(LearningRate, CosineFallsToATenth) {
  const TrainingConfig config = training(LearningRateSchedule::kCosine, 10);
  EXPECT_DOUBLE_EQ(learning_rate(config, 60, 110), (2 + 0.2) / 2);                           // half way
  EXPECT_NEAR(learning_rate(config, 35, 110), 0.2 + 1.8 * (2 + std::sqrt(2.0)) / 4, 1e-15);  // a quarter
  EXPECT_DOUBLE_EQ(learning_rate(config, 110, 110), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(config, 200, 110), 0.2);
}

TEST(LearningRate, WsdHoldsThenFallsOverTheLastFifth) {
  const TrainingConfig config = training(LearningRateSchedule::kWsd, 10);
  EXPECT_DOUBLE_EQ(learning_rate(config, 11, 100), 2);
  EXPECT_DOUBLE_EQ(learning_rate(config, 80, 100), 2);
  EXPECT_NEAR(learning_rate(config, 90, 100), 1.1, 1e-15);
  EXPECT_NEAR(learning_rate(config, 100, 100), 0.2, 1e-15);
}

TEST(LearningRate, ConstantStays) {
  EXPECT_EQ(learning_rate(training(LearningRateSchedule::kConstant, 0), 1, 5), 2);
  EXPECT_EQ(learning_rate(training(LearningRateSchedule::kConstant, 0), 5, 5), 2);
}

// Runs shorter than their warm-up, of one step, and without warm-up.
TEST(LearningRate, ShortRuns) {
  EXPECT_DOUBLE_EQ(learning_rate(training(LearningRateSchedule::kCosine, 10), 4, 4), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate(training(LearningRateSchedule::kCosine, 0), 1, 1), 0.2);
  EXPECT_NEAR(learning_rate(training(LearningRateSchedule::kWsd, 90), 95, 100), 1.1, 1e-15);
}

}  // namespace
}  // namespace mmoe
