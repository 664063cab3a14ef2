#include "sim/schedule/timeline.h"

#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "tests/sim/schedule/example_pipelines.h"

namespace mmoe {
namespace {

// Two ranks, two micro-batches, forward 1 and 2, backward 3 and 4 on ranks 0 and 1:
//   rank 0: F0 0-1, F1 1-2, B0 7-10, B1 13-16      rank 1: F0 1-3, B0 3-7, F1 7-9, B1 9-13
TEST(SimulatePipeline, ByHand) {
  const PipelinePasses passes = pipeline_passes({PipelineSchedule::kOneForwardOneBackward, 2, 1, 2});
  const std::vector<ChunkSeconds> chunks{{Seconds{1}, Seconds{3}, {}}, {Seconds{2}, Seconds{4}, {}}};
  const Timeline timeline = simulate_pipeline(passes, pass_seconds(passes, chunks), {});
  const std::vector<double> start{0, 1, 7, 13, 1, 3, 7, 9}, finish{1, 2, 10, 16, 3, 7, 9, 13};
  for (size_t i = 0; i < start.size(); ++i) {
    EXPECT_EQ(timeline.start[i].value, start[i]) << i;
    EXPECT_EQ(timeline.finish[i].value, finish[i]) << i;
  }
  EXPECT_EQ(timeline.total.value, 16);
  EXPECT_EQ(timeline.busy[0].value, 8);
  EXPECT_EQ(timeline.idle[0].value, 8);
  EXPECT_EQ(timeline.idle[1].value, 4);
}

// The same with transfers of half a second. Overlapped, rank 1 starts at 1.5 and ends B1 at 13.5, which arrives at 14.
// Blocking, rank 0 is held after F0 and F1, rank 1 after B0 and B1: F1 of rank 1 starts at 8.
TEST(SimulatePipeline, TransfersByHand) {
  const PipelinePasses passes = pipeline_passes({PipelineSchedule::kOneForwardOneBackward, 2, 1, 2});
  const std::vector<ChunkSeconds> chunks{{Seconds{1}, Seconds{3}, {}}, {Seconds{2}, Seconds{4}, {}}};
  Transfers transfers{TransferMode::kOverlapped, {Seconds{0.5}, Seconds{0.5}}};
  const std::vector<Seconds> seconds = pass_seconds(passes, chunks);
  EXPECT_EQ(simulate_pipeline(passes, seconds, transfers).total.value, 17);
  transfers.mode = TransferMode::kBlocking;
  const Timeline blocking = simulate_pipeline(passes, seconds, transfers);
  EXPECT_EQ(blocking.total.value, 17.5);
  EXPECT_EQ(blocking.start[1].value, 1.5);
  EXPECT_EQ(blocking.start[6].value, 8);
  EXPECT_EQ(blocking.sending[0].value, 1);
  EXPECT_EQ(blocking.idle[0].value, 8.5);
}

// Starts are checked against the definition, not against the sweep: the later of the rank's last pass and the input.
TEST(SimulatePipeline, HonoursEveryDependencyAndWaitsForNothingElse) {
  std::mt19937 random(2);
  std::exponential_distribution<double> duration(1);
  for (int i = 0; i < 200; ++i) {
    const PipelineShape shape = random_shape(random);
    const PipelinePasses passes = pipeline_passes(shape);
    const std::vector<Seconds> seconds =
        pass_table(passes, [&](int64_t, const Pass&) { return Seconds{duration(random)}; });
    const bool blocks = i % 2 == 0;
    const Transfers transfers =
        random_transfers(shape, blocks ? TransferMode::kBlocking : TransferMode::kOverlapped, 0.5, random);
    const Timeline timeline = simulate_pipeline(passes, seconds, transfers);

    std::map<std::tuple<bool, int64_t, int32_t>, double> finish;  // forward, stage, micro-batch
    for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
      for (int32_t j = passes.rank_begin[rank]; j < passes.rank_begin[rank + 1]; ++j) {
        const Pass& pass = passes.passes[j];
        if (pass.kind == PassKind::kBackwardWeight) continue;
        finish[{pass.kind == PassKind::kForward, shape.stage(rank, pass.chunk), pass.micro_batch}] =
            timeline.finish[j].value;
      }
    }
    const auto transfer = [&](int64_t from, int64_t to) {
      const int64_t a = shape.rank_of(std::min(from, to)), b = shape.rank_of(std::max(from, to));
      if (a == b) return 0.0;
      return transfers.seconds[static_cast<size_t>(shape.is_v_shaped() ? std::min(a, b) : a)].value;
    };
    for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
      double free = 0;
      for (int32_t j = passes.rank_begin[rank]; j < passes.rank_begin[rank + 1]; ++j) {
        const Pass& pass = passes.passes[j];
        const bool forward = pass.kind == PassKind::kForward, weight = pass.kind == PassKind::kBackwardWeight;
        const int64_t stage = shape.stage(rank, pass.chunk), last = shape.num_stages() - 1;
        double expected = free;
        if (forward && stage > 0) {
          expected = std::max(expected, finish[{true, stage - 1, pass.micro_batch}] + transfer(stage - 1, stage));
        }
        if (!forward && !weight && stage < last) {
          expected = std::max(expected, finish[{false, stage + 1, pass.micro_batch}] + transfer(stage + 1, stage));
        }
        // sums in the same order as the sweep's: equal to the last bit
        EXPECT_EQ(timeline.start[j].value, expected);
        free = timeline.finish[j].value;
        if (blocks && forward && stage < last) free += transfer(stage, stage + 1);
        if (blocks && !forward && !weight && stage > 0) free += transfer(stage, stage - 1);
      }
    }
  }
}

TEST(SimulatePipeline, NeverEndsSoonerWhenAPassOrATransferGrows) {
  std::mt19937 random(3);
  std::exponential_distribution<double> duration(1);
  for (int i = 0; i < 100; ++i) {
    const PipelineShape shape = random_shape(random);
    const PipelinePasses passes = pipeline_passes(shape);
    std::vector<Seconds> seconds = pass_table(passes, [&](int64_t, const Pass&) { return Seconds{duration(random)}; });
    Transfers transfers = random_transfers(shape, static_cast<TransferMode>(i % 2), 0.5, random);
    const Seconds before = simulate_pipeline(passes, seconds, transfers).total;
    transfers.seconds[0] += Seconds{0.1};
    const Seconds slower = simulate_pipeline(passes, seconds, transfers).total;
    seconds[std::uniform_int_distribution<size_t>(0, seconds.size() - 1)(random)] += Seconds{1};
    EXPECT_LE(before, slower);
    EXPECT_LE(slower, simulate_pipeline(passes, seconds, transfers).total);
  }
}

// Busy, sending and idle of a rank add up to the step, up to the rounding of sums of n positive terms: n epsilon.
TEST(SimulatePipeline, AccountsForEverySecondAndReusesATimeline) {
  std::mt19937 random(4);
  Timeline reused;
  for (int i = 0; i < 50; ++i) {
    const PipelineShape shape = random_shape(random);
    const PipelinePasses passes = pipeline_passes(shape);
    const std::vector<Seconds> seconds = pass_seconds(passes, random_chunks(shape, 0.5, random));
    const Transfers transfers = random_transfers(shape, TransferMode::kBlocking, 0.2, random);
    const Timeline timeline = simulate_pipeline(passes, seconds, transfers);
    simulate_pipeline(passes, seconds, transfers, reused);
    EXPECT_EQ(reused.finish, timeline.finish);
    EXPECT_EQ(reused.total, timeline.total);
    for (size_t r = 0; r < timeline.busy.size(); ++r) {
      const double bound = static_cast<double>(passes.passes.size()) * 2.3e-16 * timeline.total.value;
      EXPECT_NEAR((timeline.busy[r] + timeline.sending[r] + timeline.idle[r]).value, timeline.total.value, bound);
      EXPECT_GE(timeline.idle[r].value, -bound);
    }
  }
}

}  // namespace
}  // namespace mmoe
