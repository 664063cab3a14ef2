#include "sim/cluster/trainer_transfers.h"

#include <gtest/gtest.h>

#include "sim/config/enum_names.h"
#include "sim/plan/trainer_traffic.h"

namespace mmoe {
namespace {

struct Case {
  const char* name;
  const char* patch;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Job job_of(const char* patch) {
  nlohmann::json json = R"({
    "model": {"hidden_size": 64, "num_layers": 4, "num_dense_layers": 1, "dense_hidden_size": 96, "num_heads": 8,
              "num_kv_heads": 4, "vocab_size": 256, "num_experts": 8, "expert_hidden_size": 32},
    "hardware": {"device": "cpu", "num_devices": 4},
    "training": {"seq_len": 64, "micro_batch_size": 2, "global_batch_size": 16, "precision": "fp32"},
    "elastic": {"k_min": 1, "k_max": 4}})"_json;
  json.merge_patch(nlohmann::json::parse(patch));
  return parse_job(json, "job.json", "");
}

class TrainerTransfers : public testing::TestWithParam<Case> {};

// Layer by layer, forward and backward, they are what the exact count of a step has within layers.
TEST_P(TrainerTransfers, AddUpToTheTrafficOfAStep) {
  const Job job = job_of(GetParam().patch);
  ASSERT_TRUE(sends_as_trainer(job));
  constexpr int kActive = 2;
  TrafficByGroup sums;
  const auto add = [&](const LayerTransfers& layer, int64_t layers) {
    for (const auto* pass : {&layer.forward, &layer.backward}) {
      for (const LayerTransfer& transfer : *pass) {
        CollectiveTraffic& sum = sums[transfer.group][name_of(transfer.collective)];
        sum.calls += layers * job.num_micro_batches();
        sum.bytes += layers * job.num_micro_batches() * static_cast<int64_t>(transfer.bytes);
      }
    }
  };
  add(dense_layer_transfers(job), 1);
  add(moe_layer_transfers(job, kActive, 1), 3);
  const std::vector<std::vector<int>> k(static_cast<std::size_t>(job.num_micro_batches() * job.data_parallel_size()),
                                        std::vector<int>(3, kActive));
  TrafficByGroup expected = trainer_rank_traffic(job, 0, k);
  for (const char* outside : {"world", "data", "stage", "expert_data"}) expected.erase(outside);
  EXPECT_FALSE(expected.empty());
  EXPECT_EQ(sums, expected);
}

INSTANTIATE_TEST_SUITE_P(
    , TrainerTransfers,
    testing::Values(Case{"expert_2", R"({"parallelism": {"expert": 2}})"},
                    Case{"expert_4_recomputed", R"({"parallelism": {"expert": 4}, "training": {"recompute": "full"}})"},
                    Case{"bf16_expert_2_expert_tensor_2",
                         R"({"parallelism": {"expert": 2, "expert_tensor": 2}, "training": {"precision": "bf16"}})"},
                    Case{"expert_tensor_2", R"({"parallelism": {"expert_tensor": 2}})"},
                    Case{"tensor_2_expert_2",
                         R"({"model": {"qk_norm": "full", "shared_expert_hidden_size": 32},
                             "parallelism": {"tensor": 2, "sequence": true, "expert": 2}})"},
                    Case{"context_2_recomputed_attention",
                         R"({"parallelism": {"context": 2, "context_kind": "alltoall"},
                             "training": {"recompute": ["attention"]}})"},
                    Case{"context_2_tensor_2_recomputed_moe",
                         R"({"parallelism": {"context": 2, "context_kind": "alltoall", "tensor": 2, "sequence": true},
                             "training": {"recompute": ["moe"], "precision": "bf16"}})"}),
    [](const auto& test) { return std::string(test.param.name); });

// The busiest rank's rows come back to it and go out again; what it sends of its own stays.
TEST(MoeLayerTransfers, RowsOfTheBusiestRankComeBack) {
  const Job job = job_of(R"({"parallelism": {"expert": 2}})");
  const std::vector<LayerTransfer> forward = moe_layer_transfers(job, 2, 1.5).forward;
  const double rows = 2 * 2 * 64 * 64 * 4;  // two experts of each of 2 x 64 tokens
  ASSERT_EQ(forward.size(), 4u);
  EXPECT_EQ(forward[0].bytes, 8 * 8);
  EXPECT_EQ(forward[1].bytes, rows);
  EXPECT_EQ(forward[2].bytes, 1.5 * rows);
  EXPECT_EQ(forward[3].bytes, 2 * 2 * 64 * 4);
}

}  // namespace
}  // namespace mmoe
