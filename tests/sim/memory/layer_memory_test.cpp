#include "sim/memory/layer_memory.h"

#include <gtest/gtest.h>

#include "sim/memory/chunks.h"
#include "tests/sim/memory/memory_testing.h"

namespace mmoe {
namespace {

TEST(LayerMemory, KeptBytesGrowByTheSameAmountForEveryActiveExpert) {
  for (const char* changes :
       {"{}", R"({"training": {"precision": "bf16"}})", R"({"training": {"precision": "fp64"}})",
        R"({"training": {"recompute": ["attention"]}})", R"({"training": {"expert_saving": "all"}})",
        R"({"training": {"expert_saving": "recompute"}})"}) {
    const Job job = small_memory_job(changes);
    for (int k = 1; k < 4; ++k) {
      const double step = layer_memory(job, 1, k + 1).kept - layer_memory(job, 1, k).kept;
      // bf16: the row capacity is rounded down to whole segments of 16 rows, 4 + 4 bytes each.
      EXPECT_NEAR(step, kept_bytes_per_k(job), job.training.precision == Precision::kBf16 ? 16 * 8 : 0) << changes;
    }
  }
}

// 2F numbers a (token, expert) pair, and per pair a weight, an index and three places in the order of the rows.
TEST(LayerMemory, AnActiveExpertKeepsItsGateAndUpAndItsPlaces) {
  EXPECT_EQ(kept_bytes_per_k(small_memory_job()), 256 * (2 * 96 * 4 + 4 + 4 + 3 * 4));
}

// All: the gathered input (D = 64) and the activation (F = 96) too. Recompute: only weights, indices and places.
TEST(LayerMemory, ExpertSavingSaysWhatAnActiveExpertKeeps) {
  EXPECT_EQ(kept_bytes_per_k(small_memory_job(R"({"training": {"expert_saving": "all"}})")),
            256 * ((64 + 3 * 96) * 4 + 20));
  EXPECT_EQ(kept_bytes_per_k(small_memory_job(R"({"training": {"expert_saving": "recompute"}})")), 256 * 20);
}

TEST(LayerMemory, RecomputedLayersKeepOnlyTheirInput) {
  const Job job = small_memory_job(R"({"training": {"recompute": "full"}})");
  EXPECT_EQ(kept_bytes_per_k(job), 0);
  const double report = 8 * 8 + 2 * 4;  // expert counts and two losses
  EXPECT_EQ(layer_memory(job, 0, 4).kept, residual_bytes(job) + report);
  EXPECT_EQ(layer_memory(job, 0, 1).kept, layer_memory(job, 0, 4).kept);
}

TEST(LayerMemory, PeaksStandAboveWhatIsKept) {
  for (const char* recompute : {R"("none")", R"("full")", R"(["moe"])", R"(["attention"])"}) {
    const Job job = small_memory_job(std::string(R"({"training": {"recompute": )") + recompute + "}}");
    const LayerMemory memory = layer_memory(job, 2, 3);
    EXPECT_GE(sum_of(memory.forward_peak), memory.kept) << recompute;
    EXPECT_GE(sum_of(memory.backward_peak), memory.kept) << recompute;
    EXPECT_LE(memory.kept_attention, memory.kept) << recompute;
  }
}

TEST(Chunks, LogitsOfAChunkStayNearFourMillion) {
  EXPECT_EQ(loss_chunk_rows(100, 512), 100);
  EXPECT_EQ(loss_chunk_rows(1 << 20, 2048), 2048);
  EXPECT_EQ(loss_chunk_rows(1 << 20, 1 << 22), 64);
}

}  // namespace
}  // namespace mmoe
