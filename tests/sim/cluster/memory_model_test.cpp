#include "sim/cluster/memory_model.h"

#include <gtest/gtest.h>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

double worst(const Job& job) {
  double most = 0;
  for (const RankMemory& rank : cluster_memory(job, framework_of(job), 2))
    most = std::max(most, rank.peak_allocated.value);
  return most;
}

TEST(ClusterMemory, PartsAddUp) {
  for (const char* schedule : {"1F1B", "zero_bubble"}) {
    const Job job = example_cluster_job({{"parallelism.schedule", schedule}});
    for (const RankMemory& rank : cluster_memory(job, framework_of(job), 2)) {
      EXPECT_DOUBLE_EQ(rank.peak_allocated.value,
                       (rank.held.total() + rank.activations + rank.logits + rank.transient).value);
      EXPECT_GE(rank.peak_reserved, rank.peak_allocated);
    }
  }
}

TEST(ClusterMemory, NeverFallsWhenTheMicroBatchGrows) {
  for (const char* recompute : {"none", "full", R"(["moe"])"}) {
    double before = 0;
    for (const char* size : {"1", "2", "4", "8"}) {
      const double now =
          worst(example_cluster_job({{"training.micro_batch_size", size}, {"training.recompute", recompute}}));
      EXPECT_GE(now, before) << size;
      before = now;
    }
  }
}

TEST(ClusterMemory, ShardingMoreNeverNeedsMore) {
  double before = 1e18;
  for (const char* stage : {"0", "1", "2"}) {
    const double now = worst(example_cluster_job({{"parallelism.zero_stage", stage}}));
    EXPECT_LT(now, before) << stage;
    before = now;
  }
}

// Weights, gradients and the optimiser's states: 2 + 4 + 12 bytes, the last over the data-parallel ranks.
TEST(ClusterMemory, StatesAreEighteenBytesAWeight) {
  const Job job = example_cluster_job({{"parallelism.zero_stage", "0"}});
  const Framework framework = framework_of(job);
  const PipelineStages stages = pipeline_stages(job, framework);
  const std::vector<RankMemory> ranks = cluster_memory(job, framework, 2);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const double weights = rank_weights(job, framework, stages[rank]).total();
    EXPECT_DOUBLE_EQ((ranks[rank].held.weights + ranks[rank].held.gradients + ranks[rank].held.optimizer).value,
                     18 * weights);
  }
}

// A model answers for other pipelines and shardings as one made for them would.
TEST(ClusterMemory, OneModelServesAllPipelines) {
  Job job = example_cluster_job();
  const Framework framework = framework_of(job);
  const MemoryModel model(job, framework, 2);
  job.parallelism.pipeline = 4;
  job.parallelism.zero_stage = 0;
  const PipelineStages stages = pipeline_stages(job, framework);
  const std::vector<RankMemory> fresh = cluster_memory(job, framework, 2);
  for (std::size_t rank = 0; rank < stages.size(); ++rank) {
    EXPECT_EQ(model.rank(stages[rank], static_cast<int64_t>(rank)).peak_allocated, fresh[rank].peak_allocated);
  }
}

}  // namespace
}  // namespace mmoe
