#include "sim/schedule/in_flight.h"

#include <gtest/gtest.h>

#include "tests/sim/schedule/example_pipelines.h"

namespace mmoe {
namespace {

TEST(ChunksInFlight, ClosedFormEqualsTheCount) {
  std::mt19937 random(5);
  for (int i = 0; i < 1000; ++i) {
    const PipelineShape shape = random_shape(random);
    const std::vector<ChunksInFlight> counted = count_chunks_in_flight(pipeline_passes(shape));
    for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
      const ChunksInFlight closed = chunks_in_flight(shape, rank);
      EXPECT_EQ(closed, counted[static_cast<size_t>(rank)])
          << "schedule " << static_cast<int>(shape.schedule) << " p " << shape.pipeline << " v "
          << shape.virtual_pipeline << " m " << shape.num_micro_batches << " rank " << rank << ": " << closed.whole
          << " + " << closed.weight_only;
    }
  }
}

// The last rank of an interleaved pipeline holds (v - 1) p + 1 chunks, the first 2 (p - 1) more.
TEST(ChunksInFlight, InterleavedEnds) {
  const PipelineShape shape{PipelineSchedule::kInterleaved, 4, 3, 16};
  EXPECT_EQ(chunks_in_flight(shape, 3).whole, 2 * 4 + 1);
  EXPECT_EQ(chunks_in_flight(shape, 0).whole, 2 * 4 + 1 + 2 * 3);
}

// 1F1B, rank 0 of 2: F0 F1 B0 F2 B1 B2 with micro-batches that keep 5, 1 and 7: 5, 6, 1, 8, 7, 0 after each pass.
TEST(PeakBytes, ByHand) {
  const PipelinePasses passes = pipeline_passes({PipelineSchedule::kOneForwardOneBackward, 2, 1, 3});
  std::vector<Bytes> kept{Bytes{5}, Bytes{1}, Bytes{7}, Bytes{1}, Bytes{1}, Bytes{1}};
  std::vector<RankPeak> peaks = peak_bytes(passes, {kept, {}, 1});
  EXPECT_EQ(peaks[0].bytes, Bytes{8});
  EXPECT_EQ(peaks[0].pass, 3);
  EXPECT_EQ(peaks[1].bytes, Bytes{1});
  // A backward that needs 3 more while it runs: B0 reaches 6 + 3 from what F1 left.
  const std::vector<Bytes> height =
      pass_table(passes, [](int64_t, const Pass& pass) { return Bytes{pass.kind == PassKind::kBackward ? 3.0 : 0.0}; });
  peaks = peak_bytes(passes, {kept, height, 1});
  EXPECT_EQ(peaks[0].bytes, Bytes{11}) << "B1 on top of 8";
  EXPECT_EQ(passes.passes[static_cast<size_t>(peaks[0].pass)], (Pass{PassKind::kBackward, 1, 0}));
}

// With equal chunks the peak is the number in flight times their bytes, the share that waits for weights counted apart.
TEST(PeakBytes, EqualChunksFollowTheCount) {
  std::mt19937 random(6);
  for (int i = 0; i < 300; ++i) {
    const PipelineShape shape = random_shape(random);
    const PipelinePasses passes = pipeline_passes(shape);
    const std::vector<Bytes> kept(static_cast<size_t>(shape.num_stages() * shape.num_micro_batches), Bytes{8});
    const double share = static_cast<double>(i % 5) / 4;  // sums of eighths are exact
    const std::vector<RankPeak> peaks = peak_bytes(passes, {kept, {}, share});
    for (int64_t rank = 0; rank < shape.pipeline; ++rank) {
      const ChunksInFlight most = chunks_in_flight(shape, rank);
      const double expected =
          8 * (static_cast<double>(most.whole) + (1 - share) * static_cast<double>(most.weight_only));
      EXPECT_EQ(peaks[static_cast<size_t>(rank)].bytes.value, expected);
    }
  }
}

TEST(PeakBytes, NeverFallsWhenAMicroBatchKeepsMore) {
  std::mt19937 random(7);
  for (int i = 0; i < 100; ++i) {
    const PipelineShape shape = random_shape(random);
    const PipelinePasses passes = pipeline_passes(shape);
    std::uniform_int_distribution<int> bytes(1, 1000);
    std::vector<Bytes> kept(static_cast<size_t>(shape.num_stages() * shape.num_micro_batches));
    for (Bytes& b : kept) b = Bytes{static_cast<double>(bytes(random))};
    const std::vector<RankPeak> before = peak_bytes(passes, {kept, {}, 0.5});
    kept[std::uniform_int_distribution<size_t>(0, kept.size() - 1)(random)] += Bytes{100};
    const std::vector<RankPeak> after = peak_bytes(passes, {kept, {}, 0.5});
    for (size_t r = 0; r < after.size(); ++r) EXPECT_LE(before[r].bytes, after[r].bytes);
  }
}

}  // namespace
}  // namespace mmoe
