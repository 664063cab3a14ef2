#include "sim/schedule/closed_form.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/sim/schedule/example_pipelines.h"

namespace mmoe {
namespace {

double simulated(const PipelineShape& shape, const std::vector<ChunkSeconds>& chunks, const Transfers& transfers = {}) {
  const PipelinePasses passes = pipeline_passes(shape);
  return simulate_pipeline(passes, pass_seconds(passes, chunks), transfers).total.value;
}

// Sums of n positive terms in two orders differ by at most n epsilon each way.
double rounding(const PipelineShape& shape, double total) {
  return 2 * 3 * static_cast<double>(shape.num_stages() * shape.num_micro_batches) * 2.3e-16 * total;
}

// The published bubbles: m >= p for ZB-H1, whole groups for interleaved.
TEST(EqualStages, ReproduceThePublishedLaws) {
  std::mt19937 random(8);
  std::uniform_real_distribution<double> forward(0.8, 1.2), weight(0.5, 0.8);
  for (int i = 0; i < 300; ++i) {
    PipelineShape shape = random_shape(random);
    if (shape.is_v_shaped()) shape.virtual_pipeline = 1;
    if (shape.schedule == PipelineSchedule::kInterleaved) {
      shape.group = 0;
      shape.num_micro_batches = shape.pipeline * (1 + i % 4);
    }
    if (shape.schedule == PipelineSchedule::kZeroBubble) {
      shape.num_micro_batches = std::max(shape.num_micro_batches, shape.pipeline);
    }
    const double f = forward(random), b = forward(random), w = weight(random),
                 v = static_cast<double>(shape.virtual_pipeline);
    const std::vector<ChunkSeconds> chunks(static_cast<size_t>(shape.num_stages()),
                                           {Seconds{f / v}, Seconds{b / v}, Seconds{w / v}});
    const double total = simulated(shape, chunks);
    EXPECT_NEAR(equal_stages_seconds(shape, {Seconds{f}, Seconds{b}, Seconds{w}}).value, total, rounding(shape, total));
  }
}

// ZB-V with equal passes has no bubble on any rank beyond the way down to it: m (f + b + w) of both chunks + (p - 1) f.
TEST(EqualStages, VShapedZeroBubbleHasNone) {
  for (int64_t p = 1; p <= 8; ++p) {
    for (const int64_t m : {2 * p, 3 * p, 5 * p + 1}) {
      const PipelineShape shape{PipelineSchedule::kZeroBubble, p, 2, m};
      const std::vector<ChunkSeconds> chunks(static_cast<size_t>(2 * p), {Seconds{1}, Seconds{1}, Seconds{1}});
      EXPECT_EQ(simulated(shape, chunks), static_cast<double>(6 * m + p - 1)) << p << " " << m;
    }
  }
}

// How far the fast path lies from the simulation, by schedule and transfers, over random stages (spread 0 to 40 %;
// transfers up to a tenth of a stage). Elsewhere than where it is exact (up to rounding) it takes the longest of some
// paths, so it is short by what the others add: 1 % is the bound that the project sets for its fast path.
TEST(UnevenStages, AgreeWithTheSimulation) {
  std::mt19937 random(9);
  for (const auto schedule :
       {PipelineSchedule::kOneForwardOneBackward, PipelineSchedule::kInterleaved, PipelineSchedule::kZeroBubble}) {
    for (const bool transfer : {false, true}) {
      for (const auto mode : {TransferMode::kOverlapped, TransferMode::kBlocking}) {
        double sum = 0, worst = 0;
        int count = 0;
        for (int i = 0; i < 6000; ++i) {
          PipelineShape shape = random_shape(random);
          if (shape.schedule != schedule || shape.is_v_shaped()) continue;
          if (schedule == PipelineSchedule::kInterleaved) {
            shape.group = 0;
            shape.num_micro_batches = shape.pipeline * (1 + i % 5);
          }
          const std::vector<ChunkSeconds> chunks = random_chunks(shape, 0.1 * (i % 5), random);
          const Transfers transfers = transfer ? random_transfers(shape, mode, 0.1, random) : Transfers{mode, {}};
          const double total = simulated(shape, chunks, transfers);
          const double fast = uneven_stages_seconds(shape, chunks, transfers).value;
          const bool few = shape.num_micro_batches <= shape.pipeline * (shape.splits_backward() ? 2 : 1);
          const bool exact =
              few || schedule == PipelineSchedule::kInterleaved ||
              (schedule == PipelineSchedule::kOneForwardOneBackward && (!transfer || mode == TransferMode::kBlocking));
          if (exact) {
            EXPECT_NEAR(fast, total, rounding(shape, total));
          }
          sum += std::abs(fast / total - 1);
          worst = std::max(worst, std::abs(fast / total - 1));
          ++count;
        }
        EXPECT_LT(sum / count, 0.001) << static_cast<int>(schedule) << transfer << static_cast<int>(mode);
        EXPECT_LT(worst, 0.01) << static_cast<int>(schedule) << transfer << static_cast<int>(mode);
      }
    }
  }
}

TEST(LeastStep, BoundsEveryStepAndIsReachedByEqualStages) {
  std::mt19937 random(11);
  for (int i = 0; i < 600; ++i) {
    const PipelineShape shape = random_shape(random);
    if (shape.is_v_shaped()) continue;
    const Transfers transfers = random_transfers(shape, static_cast<TransferMode>(i % 2), 0.1, random);
    const std::vector<ChunkSeconds> chunks = random_chunks(shape, 0.3, random);
    const double total = simulated(shape, chunks, transfers);
    // a blocking transfer after a rank's last pass is counted in the bound and waited for by the rank before
    EXPECT_LE(least_step_seconds(shape, chunks, transfers).value, total + rounding(shape, total));
    if (shape.splits_backward() || shape.group > shape.pipeline) continue;
    const std::vector<ChunkSeconds> equal(chunks.size(), chunks[0]);
    const double even = simulated(shape, equal);
    EXPECT_NEAR(least_step_seconds(shape, equal, {}).value, even, rounding(shape, even));
  }
}

TEST(UnevenStages, FollowTheSlowestStage) {
  const PipelineShape shape{PipelineSchedule::kOneForwardOneBackward, 4, 1, 1000};
  std::vector<ChunkSeconds> chunks(4, {Seconds{1}, Seconds{1}, Seconds{1}});
  chunks[3] = {Seconds{2}, Seconds{2}, Seconds{2}};
  EXPECT_EQ(uneven_stages_seconds(shape, chunks, {}).value, 999 * 6 + 3 * 3 + 6);  // (m - 1) slowest + one way
}

}  // namespace
}  // namespace mmoe
