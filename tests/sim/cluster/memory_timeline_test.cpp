#include "sim/cluster/memory_timeline.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

class PlayedMemory : public testing::TestWithParam<Overrides> {};

// Played pass by pass, the highest moment of every rank is the one that the closed form names; doubles are summed in
// another order.
TEST_P(PlayedMemory, PeaksWhereTheClosedFormSays) {
  const Job job = example_cluster_job(GetParam());
  const Framework framework = framework_of(job);
  const std::vector<RankMemory> closed = cluster_memory(job, framework, 2);
  const std::vector<RankTimeline> played = memory_timeline(
      job, framework, [](int64_t, int64_t) { return 2.0; }, play_step(job, framework, 2));
  ASSERT_EQ(played.size(), closed.size());
  for (std::size_t rank = 0; rank < played.size(); ++rank) {
    EXPECT_NEAR(played[rank].peak_bytes(), closed[rank].peak_allocated.value, 1e-9 * closed[rank].peak_allocated.value)
        << rank;
    const MemorySample& peak = played[rank].samples[played[rank].peak];
    EXPECT_EQ(peak.logits > 0, closed[rank].logits.value > 0) << rank;
    double before = 0;
    for (const MemorySample& sample : played[rank].samples) {
      EXPECT_GE(sample.seconds, before);
      EXPECT_GE(sample.activations, -1e-3);  // what was kept is given back
      before = sample.seconds;
    }
    EXPECT_NEAR(played[rank].samples.back().total(), 0, 1e-3) << rank;
  }
}

INSTANTIATE_TEST_SUITE_P(
    , PlayedMemory,
    testing::Values(Overrides{}, Overrides{{"parallelism.pipeline", "4"}}, Overrides{{"parallelism.pipeline", "1"}},
                    Overrides{{"training.recompute", "full"}}, Overrides{{"training.recompute", R"(["moe"])"}},
                    Overrides{{"parallelism.schedule", "zero_bubble"}},
                    Overrides{{"parallelism.schedule", "interleaved"}, {"parallelism.virtual_pipeline", "2"}},
                    Overrides{{"parallelism.schedule", "interleaved"},
                              {"parallelism.virtual_pipeline", "2"},
                              {"parallelism.pipeline", "4"}},
                    Overrides{{"parallelism.schedule", "interleaved"},
                              {"parallelism.virtual_pipeline", "4"},
                              {"parallelism.stage_layers", "[2, 1, 1, 1, 0, 1, 1, 1]"}},
                    Overrides{{"parallelism.pipeline", "4"}, {"parallelism.stage_layers", "[3, 2, 2, 1]"}},
                    Overrides{{"training.global_batch_size", "16"}},
                    // Gathered inputs stay allocated for all micro-batches of a chunk in flight but two.
                    Overrides{{"training.framework", "nanotron"}, {"parallelism.pipeline", "4"}}));

// Where chunks differ (two layers are dense), the closed form takes ZB-V's halves as equal in number, and an
// interleaved loss as at the heaviest mix of chunks: one chunk stands for another at most.
TEST(MemoryTimeline, IsWithinOneChunkOfTheClosedFormWhereItApproximates) {
  for (const Overrides& overrides :
       {Overrides{{"parallelism.schedule", "zero_bubble"}, {"parallelism.virtual_pipeline", "2"}},
        Overrides{{"parallelism.schedule", "interleaved"}, {"parallelism.virtual_pipeline", "4"}}}) {
    const Job job = example_cluster_job(overrides);
    const Framework framework = framework_of(job);
    const MemoryModel model(job, framework, 2);
    double chunk_bytes = 0;
    for (const auto& rank : pipeline_stages(job, framework)) {
      for (const StageChunk& chunk : rank) chunk_bytes = std::max(chunk_bytes, model.kept_by_chunk(chunk));
    }
    const std::vector<RankMemory> closed = cluster_memory(job, framework, 2);
    const std::vector<RankTimeline> played = memory_timeline(
        job, framework, [](int64_t, int64_t) { return 2.0; }, play_step(job, framework, 2));
    for (std::size_t rank = 0; rank < played.size(); ++rank) {
      EXPECT_NEAR(played[rank].peak_bytes(), closed[rank].peak_allocated.value, chunk_bytes) << rank;
    }
  }
}

// The peak of a draw lies between those of k_min and k_max throughout, and one layer more at k_max adds what it keeps.
TEST(MemoryTimeline, FollowsTheDraw) {
  const Job job = example_cluster_job(
      {{"elastic.k_min", "1"}, {"elastic.k_max", "6"}, {"elastic.sampling", "uniform"}, {"parallelism.pipeline", "1"}});
  const Framework framework = framework_of(job);
  const PlayedStep step = play_step(job, framework, 3.5);
  const auto peak = [&](const DrawnK& k) { return memory_timeline(job, framework, k, step)[0].peak_bytes(); };
  const double low = peak([](int64_t, int64_t) { return 1.0; }), high = peak([](int64_t, int64_t) { return 6.0; });
  EXPECT_NEAR(low, cluster_memory(job, framework, 1)[0].peak_allocated.value, 1e-9 * low);
  EXPECT_NEAR(high, cluster_memory(job, framework, 6)[0].peak_allocated.value, 1e-9 * high);
  const double mixed =
      peak([](int64_t micro_batch, int64_t layer) { return 1.0 + static_cast<double>((micro_batch + layer) % 6); });
  EXPECT_GT(mixed, low);
  EXPECT_LT(mixed, high);
}

}  // namespace
}  // namespace mmoe
