#include "sim/schedule/v_shaped.h"

#include <gtest/gtest.h>

#include <random>

namespace mmoe {
namespace {

// Chunks spread by up to 40 % about their mean, blocking sends: equal to the simulation while all is played, within 0.5
// % of it where the rest is repeated, and never below the bound.
TEST(VShapedSteps, EqualsTheSimulation) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> spread(0.6, 1.4);
  VShapedSteps steps;
  for (const int64_t p : {2, 3, 4, 8}) {
    for (const int64_t m : {int64_t{1}, int64_t{4}, 6 * p, 6 * p + 1, 20 * p}) {
      const PipelineShape shape{PipelineSchedule::kZeroBubble, p, 2, m};
      std::vector<ChunkSeconds> chunks;
      for (int64_t i = 0; i < 2 * p; ++i) {
        const double f = spread(random);
        chunks.push_back({Seconds{f}, Seconds{f * spread(random)}, Seconds{f * spread(random)}});
      }
      const Transfers transfers{TransferMode::kBlocking, std::vector<Seconds>(static_cast<size_t>(p), Seconds{0.02})};
      const PipelinePasses passes = pipeline_passes(shape);
      const double played = simulate_pipeline(passes, pass_seconds(passes, chunks), transfers).total.value;
      EXPECT_NEAR(steps.seconds(shape, chunks, transfers).value, played, (m <= 6 * p ? 1e-9 : 5e-3) * played);
      EXPECT_LE(least_step_seconds(shape, chunks, transfers).value, played * (1 + 1e-9));
      EXPECT_GT(least_step_seconds(shape, chunks, transfers).value, 0.4 * played);
    }
  }
}

}  // namespace
}  // namespace mmoe
