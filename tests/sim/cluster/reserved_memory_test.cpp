#include "sim/cluster/reserved_memory.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

Job large_job(const Overrides& overrides = {}) {
  nlohmann::json json = example_cluster_json();
  json["model"] = "llama3-70b";
  json.erase("elastic");
  json["hardware"]["num_devices"] = 32;
  json["parallelism"] = {{"tensor", 4}, {"pipeline", 4}, {"sequence", true}, {"zero_stage", 1}};
  json["training"]["seq_len"] = 4096;
  return parse_job(json, "job.json", "/", overrides);
}

// The replay makes and frees the tensors that the closed form counts. The closed form lets all of the last stage's
// layers be alive while one works, the replay frees them on the way, and rounds each tensor up to 512 bytes: 1 % apart.
TEST(ReservedMemory, ReplayAllocatesWhatTheClosedFormCounts) {
  for (const char* chunks : {"1", "5"}) {
    const Job job = large_job({{"parallelism.virtual_pipeline", chunks}});
    const Framework framework = framework_of(job);
    const std::vector<RankMemory> ranks = cluster_memory(job, framework, 0);
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      const ReplayPeaks peaks = replay_rank(job, framework, static_cast<int64_t>(rank), 0, 1);
      EXPECT_NEAR(static_cast<double>(peaks.allocated_bytes) / ranks[rank].peak_allocated.value, 1, 0.01) << rank;
      EXPECT_GE(peaks.reserved_bytes, peaks.allocated_bytes);
    }
  }
}

// With offloaded activations the closed form counts two layers' at all moments, the replay one at the loss.
TEST(ReservedMemory, OffloadedActivationsPassThroughTwoLayers) {
  const Job job = large_job({{"training.offload", "activations"}});
  const Framework framework = framework_of(job);
  const std::vector<RankMemory> ranks = cluster_memory(job, framework, 0);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const ReplayPeaks peaks = replay_rank(job, framework, static_cast<int64_t>(rank), 0, 1);
    const double allocated = static_cast<double>(peaks.allocated_bytes), peak = ranks[rank].peak_allocated.value;
    EXPECT_LE(allocated, 1.01 * peak) << rank;
    EXPECT_GE(allocated, 0.99 * (peak - ranks[rank].activations.value / 2)) << rank;
    if (rank + 1 < ranks.size()) {
      EXPECT_NEAR(allocated / peak, 1, 0.01) << rank;
    }
  }
}

class EverythingIsFreed : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, EverythingIsFreed, testing::Values("none", "activations"));

TEST_P(EverythingIsFreed, OfAStep) {
  const Job job = large_job({{"training.offload", GetParam()}});
  std::size_t second = 0;
  const std::vector<AllocationEvent> events = rank_allocations(job, framework_of(job), 0, 0, 1, second);
  int64_t alive = 0, at_second = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (i == second) at_second = alive;
    alive += events[i].bytes == AllocationEvent::kFree ? -1 : 1;
  }
  EXPECT_EQ(alive, at_second);
}

TEST(ReservedMemory, ExpandableSegmentsReserveNoMore) {
  const Job job = large_job(), expandable = large_job({{"hardware.allocator", "expandable_segments"}});
  const Framework framework = framework_of(job);
  EXPECT_LE(cluster_memory(expandable, framework, 0)[0].peak_reserved,
            cluster_memory(job, framework, 0)[0].peak_reserved);
}

}  // namespace
}  // namespace mmoe
