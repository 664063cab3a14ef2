#include "sim/cluster/step_time.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/sim/cluster/example_cluster_job.h"

namespace mmoe {
namespace {

double step(const Overrides& overrides) {
  const Job job = example_cluster_job(overrides);
  return cluster_step_time(job, framework_of(job), 2).step();
}

TEST(ClusterStepTime, PartsAreNotNegative) {
  const Job job = example_cluster_job();
  const ClusterStepTime time = cluster_step_time(job, framework_of(job), 2);
  for (const double part : {time.bubble, time.data_transfers, time.optimizer, time.stragglers, time.fixed}) {
    EXPECT_GE(part, 0);
  }
  EXPECT_GT(total(time.micro_batches), 0);
}

// Zero-bubble schedules wait less; the V-shaped one is played, not worked out in closed form.
TEST(ClusterStepTime, ZeroBubbleSchedulesWaitLess) {
  const Overrides plain = {{"parallelism.pipeline", "4"}};
  const Overrides split = {{"parallelism.pipeline", "4"}, {"parallelism.schedule", "zero_bubble"}};
  const Overrides vee = {
      {"parallelism.pipeline", "4"}, {"parallelism.schedule", "zero_bubble"}, {"parallelism.virtual_pipeline", "2"}};
  EXPECT_LT(step(split), step(plain));
  EXPECT_LT(step(vee), step(plain));
}

TEST(ClusterStepTime, ASlowerNetworkIsNeverFaster) {
  Job job = example_cluster_job();
  const Framework framework = framework_of(job);
  const double before = cluster_step_time(job, framework, 2).step();
  for (FabricLevel& level : job.hardware.fabric) level.bandwidth = BytesPerSecond{level.bandwidth.value / 4};
  EXPECT_GT(cluster_step_time(job, framework, 2).step(), before);
}

TEST(ClusterStepTime, HidingTransfersIsNeverSlower) {
  EXPECT_LE(step({{"training.overlap", "true"}}), step({{"training.overlap", "false"}}));
}

// Offloaded states cost at least their transfers: fp32 gradients down, bf16 weights up, over PCIe's 64 GB/s; and the
// host's memory, at 76.8 GB/s, 34 bytes: gradients in and out, weights out, master weights and two moments in and out.
TEST(ClusterStepTime, OffloadedOptimizersMoveSixBytesAWeightAndThirtyFourInTheHost) {
  Job job = example_cluster_job({{"training.offload", "optimizer"}});
  const Framework framework = framework_of(job);
  const PipelineStages stages = pipeline_stages(job, framework);
  double most = 0;
  for (const auto& chunks : stages) {
    const RankWeights weights = rank_weights(job, framework, chunks);
    // 16 devices, pipeline 2: 4 ranks share dense weights (tensor 2), 2 share experts (expert 4).
    most = std::max(most, weights.dense / 4 + weights.expert / 2);
  }
  EXPECT_NEAR(cluster_step_time(job, framework, 2).optimizer / (34 * most / 76.8e9), 1, 1e-12);
  job.hardware.cluster_spec.host_bandwidth = {};  // not known
  EXPECT_NEAR(cluster_step_time(job, framework, 2).optimizer / (6 * most / 64e9), 1, 1e-12);
}

// Without data-parallel ranks nothing else follows the passes. The table's part of a rank, 32768 / 2 x 1024 gradients
// in fp32, crosses the link between two ranks once each way: launch + 2 hops + (half size + bytes) / bandwidth.
TEST(ClusterStepTime, FirstAndLastStageAddUpTheGradientsOfATableThatBothHold) {
  struct Case {
    const char *pipeline, *devices, *key, *value;
    int level;  // of the fabric between the ends; -1: no sum
  };
  const char *tied = "model.tie_embeddings", *mtp = "model.num_mtp_layers";
  for (const Case& c :
       {Case{"4", "8", tied, "true", 0}, Case{"8", "16", tied, "true", 1}, Case{"8", "16", mtp, "1", 1},
        Case{"8", "16", tied, "false", -1}, Case{"1", "2", tied, "true", -1}, Case{"1", "2", mtp, "1", -1}}) {
    const Job job = example_cluster_job({{"parallelism.pipeline", c.pipeline},
                                         {"parallelism.expert", "2"},
                                         {"hardware.num_devices", c.devices},
                                         {c.key, c.value}});
    const Framework framework = framework_of(job);
    double expected = 0;
    if (c.level >= 0) {
      const Network network = make_network(job.hardware, framework.network);
      const Link& link = network.links[static_cast<std::size_t>(c.level)];
      const double bytes = 4.0 * 32768 / 2 * 1024;
      expected = network.launch.value + 2 * link.latency.value + (link.half_size.value + bytes) / link.bandwidth.value;
    }
    EXPECT_NEAR(cluster_step_time(job, framework, 2).data_transfers, expected, 1e-12 * expected)
        << c.key << " " << c.value << ", pipeline " << c.pipeline;
  }
}

// 16 devices, tensor 2, pipeline 2: 4 ranks share dense weights, two apart, and 2 share experts, four apart. Groups of
// 2 make two copies: halves of the dense weights lie two apart, the copies of a half and those of experts four apart.
TEST(ClusterStepTime, ShardedCopiesAddUpTheirShares) {
  struct Case {
    const char* stage;
    double gathers, scatters;  // a step of 16 micro-batches
  };
  for (const Case& c : {Case{"1", 1, 1}, Case{"2", 1, 16}, Case{"3", 2 * 16, 16}}) {
    const Job job = example_cluster_job(
        {{"parallelism.zero_stage", c.stage}, {"parallelism.zero_group", "2"}, {"training.overlap", "false"}});
    const Framework framework = framework_of(job);
    const Network network = make_network(job.hardware, framework.network);
    const GroupPlacement halves = place({2, 2}, network.domains), copies = place({2, 4}, network.domains);
    double most = 0;
    for (const auto& chunks : pipeline_stages(job, framework)) {
      const RankWeights weights = rank_weights(job, framework, chunks);
      const double dense = c.gathers * all_gather(network, halves, Bytes{2 * weights.dense}).value +
                           c.scatters * reduce_scatter(network, halves, Bytes{4 * weights.dense}).value +
                           all_reduce(network, copies, Bytes{4 * weights.dense / 2}).value;
      most = std::max(most, dense + all_reduce(network, copies, Bytes{4 * weights.expert}).value);
    }
    const double data = cluster_step_time(job, framework, 2).data_transfers;
    EXPECT_NEAR(data, most, 1e-12 * most) << "ZeRO " << c.stage;
  }
}

// One group of all ranks is no group; what is not sharded has no copies.
TEST(ClusterStepTime, OneShardedCopyIsTheDefault) {
  EXPECT_EQ(step({{"parallelism.zero_group", "4"}}), step({}));
  EXPECT_EQ(step({{"parallelism.zero_stage", "0"}, {"parallelism.zero_group", "2"}}),
            step({{"parallelism.zero_stage", "0"}}));
}

// Of the first stage's layers, two dense and two MoE, the first three run forward again: 2 and 1.
TEST(ClusterStepTime, OnlySoManyLayersAreRecomputed) {
  const auto work = [](const Overrides& overrides) {
    const Job job = example_cluster_job(overrides);
    const Framework framework = framework_of(job);
    const StepModel model(job, framework, 2);
    const LayerSeconds moe = model.moe_layer(2);
    const ChunkWork first = model.work(pipeline_stages(job, framework)[0][0]);
    EXPECT_NEAR(total(first.by_cause), first.device.total().value, 1e-12);
    return std::pair{first.device.total().value, moe.step_total()};
  };
  const auto [none, moe] = work({{"training.recompute", "none"}});
  const auto [all, moe_again] = work({{"training.recompute", "full"}});
  const auto [three, unused] = work({{"training.recompute", "full"}, {"training.recompute_num_layers", "3"}});
  EXPECT_LT(none, three);
  EXPECT_NEAR(all - three, moe_again - moe, 1e-9 * all);
  EXPECT_DOUBLE_EQ(work({{"training.recompute", "full"}, {"training.recompute_num_layers", "4"}}).first, all);
}

TEST(ClusterStepTime, ATableOnOneRankIsNotSummedOverThePipeline) {
  const Overrides vee = {{"parallelism.schedule", "zero_bubble"},
                         {"parallelism.virtual_pipeline", "2"},
                         {"parallelism.expert", "2"},
                         {"hardware.num_devices", "4"},
                         {"model.tie_embeddings", "true"}};
  const Job job = example_cluster_job(vee);
  EXPECT_EQ(cluster_step_time(job, framework_of(job), 2).data_transfers, 0);
}

TEST(ClusterStepTime, OffloadedActivationsCostWhatTheLayersTimeDoesNotHide) {
  Job job = example_cluster_job({{"training.offload", "activations"}});
  const Framework framework = framework_of(job);
  const double at_pcie = cluster_step_time(job, framework, 2).step();
  EXPECT_GE(at_pcie, step({}));
  job.hardware.cluster_spec.host_bandwidth = BytesPerSecond{1e9};
  const double at_slow_memory = cluster_step_time(job, framework, 2).step();
  EXPECT_GT(at_slow_memory, 2 * at_pcie);
  job.hardware.cluster_spec.host_bandwidth = {};  // not known
  job.hardware.spec.host_link = BytesPerSecond{1e15};
  EXPECT_DOUBLE_EQ(cluster_step_time(job, framework, 2).step(), step({})) << "a link that is fast enough hides all";
  job.hardware.spec.host_link = BytesPerSecond{1e9};
  EXPECT_EQ(cluster_step_time(job, framework, 2).step(), at_slow_memory);
}

// A host that needs h per stage joins the device's time d as (h^p + d^p)^(1/p).
TEST(ClusterStepTime, HostAndDeviceJoinInAPNorm) {
  ChunkWork work;
  work.device = {Seconds{1}, Seconds{1}, Seconds{1}};
  TimeParameters time;
  time.host_sharpness = 2;
  work.host = 4;
  EXPECT_NEAR(joined(work, time).total().value, 5, 1e-12);
  work.host = 0;
  EXPECT_EQ(joined(work, time).total().value, 3);
}

// Where the host waits at the end of every pass, embedding and head (1 s of 3) come on top: 1 + (2^2 + 1.5^2)^(1/2).
TEST(ClusterStepTime, AWaitingHostDoesNotHideBehindTheHead) {
  ChunkWork work;
  work.device = {Seconds{1}, Seconds{1}, Seconds{1}};
  work.ends = 1;
  work.host = 1.5;
  TimeParameters time;
  time.host_sharpness = 2;
  time.hidden_by_head = 0;
  EXPECT_NEAR(joined(work, time).total().value, 3.5, 1e-12);
  time.hidden_by_head = 1;
  EXPECT_NEAR(joined(work, time).total().value, std::hypot(3, 1.5), 1e-12);
}

// Korthikanti et al. 2022 (arXiv:2205.05198), table 5: measured on A100s, printed to 0.01 s. The values of megatron_lm
// were set with these rows in sight: the bound, 8 %, is that of the worst of them, not a claim about others.
struct Row {
  const char* name;
  int64_t layers, hidden, heads, pipeline, chunks, micro_batch, global_batch;
  bool present;  // sequence parallelism and selective recomputation, else full recomputation
  double seconds;
};
constexpr Row kRows[] = {{"gpt_22b_full", 48, 6144, 64, 1, 1, 4, 4, false, 1.42},
                         {"gpt_22b_present", 48, 6144, 64, 1, 1, 4, 4, true, 1.10},
                         {"gpt_175b_full", 96, 12288, 96, 8, 3, 1, 64, false, 18.13},
                         {"gpt_175b_present", 96, 12288, 96, 8, 3, 1, 64, true, 13.75},
                         {"gpt_530b_full", 105, 20480, 128, 35, 3, 1, 280, false, 49.05},
                         {"gpt_530b_present", 105, 20480, 128, 35, 3, 1, 280, true, 37.83},
                         {"gpt_1t_full", 128, 25600, 160, 64, 1, 1, 512, false, 94.42},
                         {"gpt_1t_present", 128, 25600, 160, 64, 1, 1, 512, true, 71.49}};
class KorthikantiTable5 : public testing::TestWithParam<Row> {};

TEST_P(KorthikantiTable5, StepTime) {
  const Row& row = GetParam();
  const Job job = parse_job(
      {{"model",
        {{"hidden_size", row.hidden},
         {"num_layers", row.layers},
         {"num_heads", row.heads},
         {"vocab_size", 51200},
         {"dense_hidden_size", 4 * row.hidden},
         {"activation", "gelu"},
         {"norm", "layer"},
         {"linear_bias", true},
         {"position", "learned"},
         {"max_position_embeddings", 2048},
         {"tie_embeddings", true}}},
       {"hardware", {{"device", "a100-sxm-80gb"}, {"num_devices", 8 * row.pipeline}}},
       {"parallelism",
        {{"tensor", 8}, {"pipeline", row.pipeline}, {"virtual_pipeline", row.chunks}, {"sequence", row.present}}},
       {"training",
        {{"framework", "megatron_lm"},
         {"seq_len", 2048},
         {"micro_batch_size", row.micro_batch},
         {"global_batch_size", row.global_batch},
         {"attention_backend", "unfused"},
         {"overlap", false},
         {"recompute", row.present ? nlohmann::json{"core_attention"} : nlohmann::json("full")}}}},
      row.name, "/");
  EXPECT_NEAR(cluster_step_time(job, framework_of(job), 0).step() / row.seconds, 1, 0.08);
}
INSTANTIATE_TEST_SUITE_P(, KorthikantiTable5, testing::ValuesIn(kRows),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace mmoe
