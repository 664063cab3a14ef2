#include "sim/plan/stated_rows.h"

#include <gtest/gtest.h>

#include <fstream>

#include "sim/plan/trainer_traffic.h"

namespace mmoe {
namespace {

Job split_job(const std::string& load) {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 96, "num_experts": 8,
              "expert_hidden_size": 16},
    "hardware": {"device": "cpu", "num_devices": 4}, "parallelism": {"expert": 2},
    "training": {"seq_len": 16, "micro_batch_size": 2, "global_batch_size": 8, "precision": "fp32"},
    "elastic": {"k_min": 1, "k_max": 6}})");
  if (!load.empty()) json["training"]["moe"]["load"] = load;
  return parse_job(json, "job.json", ".");
}

TEST(StatedRows, AreEqualSharesWhereNoLoadIsStated) {
  const Job job = split_job("");
  for (int64_t rank = 0; rank < 4; ++rank) EXPECT_EQ(stated_share(job, rank), 0.5);
  EXPECT_EQ(stated_rows(7, 0.5), 4);
  EXPECT_EQ(stated_rows(7, 0.4), 3);
  EXPECT_EQ(stated_rows(7, 1.5), 7);
}

TEST(StatedRows, FollowAMeasuredLoad) {
  const std::string load = testing::TempDir() + "mmoe_stated_load.json";
  std::ofstream(load) << "[3, 3, 3, 3, 1, 1, 1, 1]";
  const Job job = split_job(load);
  for (int64_t rank = 0; rank < 4; ++rank) EXPECT_NEAR(stated_share(job, rank), rank % 2 == 0 ? 0.75 : 0.25, 1e-12);
}

// By hand: 32 tokens, k = 2 and 4 on the ranks of the first expert group, rows of 32 fp32 numbers and a weight. The
// first rank sends 64 rows and gets 3/4 of 64 and of 128; per layer 8 counts of 8 bytes.
TEST(StatedRows, SayWhatARankSends) {
  const std::string load = testing::TempDir() + "mmoe_stated_load.json";
  std::ofstream(load) << "[3, 3, 3, 3, 1, 1, 1, 1]";
  const Job job = split_job(load);
  const std::vector<std::vector<int>> k{{2, 2}, {4, 4}, {1, 1}, {1, 1}};
  const CollectiveTraffic all_to_all = trainer_rank_traffic(job, 0, k)["expert"]["all_to_all"];
  constexpr int64_t kSent = 64, kReceived = 48 + 96, kRow = 32 * 4, kWeight = 4;
  EXPECT_EQ(all_to_all.calls, 2 * 7);
  EXPECT_EQ(all_to_all.bytes, 2 * (64 + kSent * (kRow + kWeight) + kReceived * kRow +  // forward
                                   kSent * kRow + kReceived * (kRow + kWeight)));      // backward
}

TEST(StatedRows, SumToWhatAllRanksSend) {
  const Job job = split_job("");
  const std::vector<std::vector<int>> k{{2, 3}, {4, 4}, {1, 6}, {5, 1}};
  TrafficByGroup sum;
  for (int64_t rank = 0; rank < 4; ++rank) {
    for (const auto& [group, collectives] : trainer_rank_traffic(job, rank, k)) {
      for (const auto& [name, traffic] : collectives) {
        sum[group][name].calls += traffic.calls;
        sum[group][name].bytes += traffic.bytes;
      }
    }
  }
  EXPECT_EQ(sum, trainer_traffic(job, k));
}

}  // namespace
}  // namespace mmoe
