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

// On the host 12 bytes of states and an fp32 gradient of each weight that a rank updates.
TEST(ClusterMemory, OffloadedStatesAreSixteenBytesAWeightOfTheHost) {
  const Job job = example_cluster_job({{"training.offload", "optimizer"}});
  const Framework framework = framework_of(job);
  const PipelineStages stages = pipeline_stages(job, framework);
  const std::vector<RankMemory> ranks = cluster_memory(job, framework, 2);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankWeights weights = rank_weights(job, framework, stages[rank]);
    EXPECT_EQ(ranks[rank].held.optimizer.value, 0);
    EXPECT_DOUBLE_EQ(ranks[rank].host.value, 16 * (weights.dense / 4 + weights.expert / 2));
  }
}

// What the device kept lies on the host, but for two layers' worth on its way.
TEST(ClusterMemory, OffloadedActivationsLieOnTheHost) {
  const Job with = example_cluster_job({{"training.offload", "activations"}}), without = example_cluster_job();
  const Framework framework = framework_of(with);
  const std::vector<RankMemory> on_host = cluster_memory(with, framework, 2);
  const std::vector<RankMemory> on_device = cluster_memory(without, framework, 2);
  const RankShapes shapes = rank_shapes(with, framework);
  const double layer = std::max(layer_bytes(with, framework, shapes, LayerKind::kDense, 2, 1).kept,
                                layer_bytes(with, framework, shapes, LayerKind::kMoe, 2, 1).kept);
  const std::size_t first = 0, last = 1;
  EXPECT_DOUBLE_EQ(on_host[first].activations.value, 2 * layer);
  // The first of two ranks has two micro-batches of its half of the layers in flight, two of four of them dense; the
  // last one.
  const auto half = [&](int64_t dense) {
    return static_cast<double>(dense) * layer_bytes(with, framework, shapes, LayerKind::kDense, 2, 1).kept +
           static_cast<double>(4 - dense) * layer_bytes(with, framework, shapes, LayerKind::kMoe, 2, 1).kept;
  };
  EXPECT_DOUBLE_EQ(on_host[first].host.value, 2 * half(2));
  EXPECT_DOUBLE_EQ(on_host[last].host.value, half(0));
  EXPECT_EQ(on_device[first].host.value, 0);
  EXPECT_GT(on_device[first].activations, on_host[first].activations);
}

// Groups of 2 of the 4 ranks that share dense weights make two sharded copies; of 2 that share experts each holds one.
TEST(ClusterMemory, GroupsHoldSharedCopiesEach) {
  const Job job = example_cluster_job({{"parallelism.zero_group", "2"}});
  const Framework framework = framework_of(job);
  const PipelineStages stages = pipeline_stages(job, framework);
  const std::vector<RankMemory> ranks = cluster_memory(job, framework, 2);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankWeights weights = rank_weights(job, framework, stages[rank]);
    EXPECT_DOUBLE_EQ(ranks[rank].held.optimizer.value, 12 * (weights.dense / 2 + weights.expert));
  }
}

// Context ranks shard with their group: Megatron-Core divides data x context ranks into the copies.
TEST(ClusterMemory, ContextRanksShardWithTheirGroup) {
  const Overrides layout = {{"parallelism.context", "2"}, {"parallelism.expert", "2"}};
  Overrides grouped = layout;
  grouped.emplace_back("parallelism.zero_group", "1");
  const Job job = example_cluster_job(grouped);  // two data-parallel ranks, two copies, each on two context ranks
  const Framework framework = framework_of(job);
  const RankWeights weights = rank_weights(job, framework, pipeline_stages(job, framework)[0]);
  EXPECT_DOUBLE_EQ(cluster_memory(job, framework, 2)[0].held.optimizer.value,
                   12 * (weights.dense / 2 + weights.expert / 2));
}

TEST(ClusterMemory, NeverGrowsWhenMoreLayersAreRecomputed) {
  double before = 1e18;
  for (const char* layers : {"1", "2", "3", "4"}) {
    const double now =
        worst(example_cluster_job({{"training.recompute", "full"}, {"training.recompute_num_layers", layers}}));
    EXPECT_LT(now, before) << layers;
    before = now;
  }
  EXPECT_EQ(before, worst(example_cluster_job({{"training.recompute", "full"}})));
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
