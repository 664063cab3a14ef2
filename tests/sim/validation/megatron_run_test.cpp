#include "sim/validation/megatron_run.h"

#include <gtest/gtest.h>

#include "tests/sim/validation/published_rows.h"

namespace mmoe {
namespace {

// The flags begin with "transformer-impl", which tells a run of continuous integration.
std::map<std::string, std::string> ci_row(const std::string& flags, const std::string& hardware) {
  std::map<std::string, std::string> row = {
      {"framework", "Megatron-LM"}, {"hardware", hardware}, {"vpp", "1"}, {"dp", "4"}, {"flags", flags},
      {"iter_time_s", "100"}};  // slow enough for every device
  row.merge(nemo_row());        // keeps what is there
  return row;
}

Job job_of(const std::string& flags, const std::string& hardware) {
  const CsvTable table = CsvTable::parse(published_table({ci_row(flags, hardware)}), "t.csv");
  const RunOrReason result = measured_run(table.rows().front());
  EXPECT_TRUE(result.run) << result.reason;
  return result.run->job;
}

TEST(MegatronRun, AttentionThatAutoChooses) {
  EXPECT_TRUE(job_of("transformer-impl=transformer_engine;swiglu", "dgx_a100").training.has_option("flash_attention"));
  EXPECT_TRUE(job_of("transformer-impl=transformer_engine;swiglu", "dgx_h100").training.has_option("cudnn_attention"));
  EXPECT_EQ(
      job_of("transformer-impl=transformer_engine;attention-backend=unfused", "dgx_h100").training.attention_backend,
      AttentionBackend::kUnfused);
  EXPECT_TRUE(job_of("transformer-impl=transformer_engine;NVTE_ALLOW_NONDETERMINISTIC_ALGO=0", "dgx_gb200")
                  .training.has_option("flash_attention"));
}

TEST(MegatronRun, LatentAttentionFromFlagsOrWords) {
  for (const char* flags : {"transformer-impl=transformer_engine;multi-latent-attention;q-lora-rank=1536;kv-lora-rank="
                            "512;qk-head-dim=128;qk-pos-emb-head-"
                            "dim=64;v-head-dim=128",
                            "transformer-impl=transformer_engine;MLA q-lora 1536, kv-lora 512, qk 128+64, v 128"}) {
    const Job job = job_of(flags, "dgx_h100");
    EXPECT_EQ(job.model.attention, AttentionKind::kLatent) << flags;
    EXPECT_EQ(job.model.q_lora_rank, 1536) << flags;
    EXPECT_EQ(job.model.head_dim, 192) << flags;
    EXPECT_EQ(job.model.v_head_dim, 128) << flags;
  }
}

TEST(MegatronRun, WhatTheModelLeavesOutHasAReason) {
  for (const char* flags :
       {"transformer-impl=local;cuda-graph-impl=local", "transformer-impl=local;position-embedding-type=none",
        "transformer-impl=local;hybrid-override-pattern=M"}) {
    const CsvTable table = CsvTable::parse(published_table({ci_row(flags, "dgx_h100")}), "t.csv");
    EXPECT_FALSE(measured_run(table.rows().front()).run) << flags;
  }
}

}  // namespace
}  // namespace mmoe
