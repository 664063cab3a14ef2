#include "sim/validation/measured_run.h"

#include <gtest/gtest.h>

#include "tests/sim/validation/published_rows.h"

namespace mmoe {
namespace {

RunOrReason run_of(std::map<std::string, std::string> row) {
  return measured_run(CsvTable::parse(published_table({std::move(row)}), "t.csv").rows().front());
}

TEST(MeasuredRun, ColumnsBecomeAJob) {
  const RunOrReason result = run_of(nemo_row());
  ASSERT_TRUE(result.run) << result.reason;
  const Job& job = result.run->job;
  EXPECT_EQ(job.hardware.device, "h100-sxm-80gb");
  EXPECT_EQ(job.parallelism.virtual_pipeline, 5);
  EXPECT_EQ(job.data_parallel_size(), 4);
  EXPECT_EQ(job.training.framework, "nemo");
  EXPECT_EQ(result.run->step_seconds, 10);
  EXPECT_EQ(result.run->stratum, "nemo dense several nodes");
}

TEST(MeasuredRun, TimesComeFromTokensAndRemarksAreLeftOut) {
  auto row = nemo_row();
  row.erase("iter_time_s");
  row["tokens_s_gpu"] = "1000";
  row["global_batch"] = "128 (secondary)";
  const RunOrReason result = run_of(row);
  ASSERT_TRUE(result.run) << result.reason;
  EXPECT_DOUBLE_EQ(*result.run->step_seconds, 128.0 * 8192 / (1000 * 64));
}

// A width of four hidden sizes has no gate, but under nanotron every model is a Llama.
TEST(MeasuredRun, NanotronModelsAreGated) {
  auto row = nemo_row();
  row.insert_or_assign("ffn", "32768");
  row.erase("vpp");
  EXPECT_EQ(run_of(row).run->job.model.activation, Activation::kGelu);
  row.insert_or_assign("framework", "nanotron 1F1B");
  EXPECT_EQ(run_of(row).run->job.model.activation, Activation::kSwiGlu);
}

// The name of a row says nothing that its columns do not.
TEST(MeasuredRun, BridgeSendsATokenToANodeOnce) {
  auto row = nemo_row();
  row["experts"] = "8";
  row["topk"] = "2";
  row["pp"] = "1";
  row["iter_time_s"] = "100";  // of more experts
  const auto dispatcher = [&] {
    const RunOrReason run = measured_run(CsvTable::parse(published_table({row}), "t.csv").rows()[0]);
    EXPECT_TRUE(run.run) << run.reason;
    return run.run->job.training.moe.dispatcher;
  };
  EXPECT_EQ(dispatcher(), DispatcherKind::kAllToAll);
  row["notes"] = "dispatcher DeepEP";
  EXPECT_EQ(dispatcher(), DispatcherKind::kHierarchical);
  row["notes"] = "";
  row["framework"] = "Megatron-Bridge (Megatron-Core)";
  EXPECT_EQ(dispatcher(), DispatcherKind::kHierarchical);
  row["routing"] = "token-drop";
  EXPECT_EQ(dispatcher(), DispatcherKind::kAllToAll);
}

// Interleaved without a number: layer by layer, the rest to the first chunks.
TEST(MeasuredRun, InterleavedPipelinesOfUnknownDepthAreTakenLayerByLayer) {
  auto row = nemo_row();
  const auto chunks = [&] { return run_of(row).run->job.parallelism.virtual_pipeline; };
  ASSERT_EQ(chunks(), 5);
  row.insert_or_assign("vpp", ">1 (interleaved, v not stated)");
  EXPECT_EQ(chunks(), std::stoll(row.at("layers")) / std::stoll(row.at("pp")));
  row.insert_or_assign("vpp", "");
  EXPECT_EQ(chunks(), 1);
}

// 64 GPUs cannot run this step in fp32 (67 TFLOP/s) in the time that bf16 took (989 TFLOP/s).
TEST(MeasuredRun, RunsFasterThanTheirPrecisionAllowsAreLeftOut) {
  auto row = nemo_row();
  ASSERT_TRUE(run_of(row).run);
  row.insert_or_assign("precision", "fp32");
  EXPECT_EQ(run_of(row).reason, "faster than the device's peak at the named precision");
}

// The table names neither the experts' width nor which layers are dense.
TEST(MeasuredRun, BlanksOfAKnownArchitectureAreFilled) {
  auto row = nemo_row();
  for (const auto& [column, value] : std::map<std::string, std::string>{{"model", "Llama 4 Maverick 400B"},
                                                                        {"hidden", "5120"},
                                                                        {"layers", "48"},
                                                                        {"ffn", "16384"},
                                                                        {"heads", "40"},
                                                                        {"experts", "128"},
                                                                        {"topk", "1"},
                                                                        {"pp", "1"}})
    row[column] = value;
  const RunOrReason run = measured_run(CsvTable::parse(published_table({row}), "t.csv").rows()[0]);
  ASSERT_TRUE(run.run) << run.reason;
  EXPECT_EQ(run.run->job.model.num_moe_layers(), 24);
  EXPECT_EQ(run.run->job.model.expert_hidden_size, 8192);
  EXPECT_EQ(run.run->job.model.shared_expert_hidden_size, 8192);
}

// Six stacks of HBM2e are another device than five of HBM3.
TEST(MeasuredRun, TheMemoryOfAnH100NamesTheDevice) {
  auto row = nemo_row();
  row["hardware"] = "H100 96GB HBM2e 500W (Grand Teton, 400Gb/s RDMA per GPU)";
  EXPECT_EQ(run_of(row).run->job.hardware.device, "h100-sxm-96gb");
  row["hardware"] = "H100-80GB 700W, RoCE 400Gb/s";
  EXPECT_EQ(run_of(row).run->job.hardware.device, "h100-sxm-80gb");
}

// DeepSeek-V3's router picks a token's experts in 4 of 8 groups; a model cut to fewer experts is another one.
TEST(MeasuredRun, NodeLimitedRoutingComesWithTheModel) {
  auto row = nemo_row();
  for (const auto& [column, value] : std::map<std::string, std::string>{{"model", "DeepSeek V3 671B"},
                                                                        {"hidden", "7168"},
                                                                        {"layers", "61"},
                                                                        {"ffn", "18432"},
                                                                        {"heads", "128"},
                                                                        {"kv_heads", "128"},
                                                                        {"experts", "256"},
                                                                        {"topk", "8"},
                                                                        {"expert_ffn", "2048"},
                                                                        {"tp", "1"},
                                                                        {"pp", "1"},
                                                                        {"ep", "64"},
                                                                        {"iter_time_s", "100"}})
    row[column] = value;
  row.erase("vpp");
  const auto groups = [&] {
    const RunOrReason run = run_of(row);
    EXPECT_TRUE(run.run) << run.reason;
    return std::pair{run.run->job.model.n_group, run.run->job.model.topk_group};
  };
  EXPECT_EQ(groups(), std::pair(int64_t{8}, int64_t{4}));
  row["experts"] = "64";
  EXPECT_EQ(groups(), std::pair(int64_t{1}, int64_t{1}));
}

TEST(MeasuredRun, TorchtitanRecomputesHalfWhereItSelects) {
  auto row = nemo_row();
  row["framework"] = "torchtitan";
  row["recompute"] = "selective per-op";
  const Recompute half = run_of(row).run->job.training.recompute;
  EXPECT_TRUE(half.full);
  EXPECT_EQ(half.num_layers, 80 / (4 * 5) / 2);  // of each chunk
  row["recompute"] = "full";
  EXPECT_EQ(run_of(row).run->job.training.recompute.num_layers, 0);
}

TEST(MeasuredRun, OptionsStandInRemarksAndPrecision) {
  auto row = nemo_row();
  row["framework"] = "torchtitan";
  using Options = std::vector<std::string>;
  EXPECT_EQ(run_of(row).run->job.training.options, Options());
  row["precision"] = "float8 rowwise";
  row["notes"] = "2D+AsyncTP +compile";
  EXPECT_EQ(run_of(row).run->job.training.options, (Options{"async_tensor", "row_scales"}));
  row["framework"] = "Megatron-Core";
  row["precision"] = "bf16";
  row["notes"] = "dispatcher DeepEP; 1F1B A2A overlap";
  EXPECT_EQ(run_of(row).run->job.training.options, Options{"async_expert"});
}

// Who ran it, by the framework column alone.
TEST(MeasuredRun, SuitesAndRivalsHaveFrameworksOfTheirOwn) {
  auto row = nemo_row();
  const auto framework = [&](const char* name) {
    row["framework"] = name;
    const RunOrReason run = run_of(row);
    EXPECT_TRUE(run.run) << run.reason;
    return run.run->job.training.framework;
  };
  EXPECT_EQ(framework("DeepSpeed ZeRO-3"), "deepspeed_zero3");
  EXPECT_EQ(framework("llama3_8B-megatron"), "flagperf");
  EXPECT_EQ(framework("aquila2_7b-flagscale"), "flagperf");
  EXPECT_EQ(framework("NeMo AutoModel (PyTorch)"), "torch_fsdp");
  EXPECT_EQ(framework("Megatron-Core"), "megatron_core");
}

TEST(MeasuredRun, IdAndModelNameHaveNoSay) {
  auto row = nemo_row();
  const Job before = run_of(row).run->job;
  row["id"] = "another";
  row["model"] = "Something else";
  EXPECT_EQ(to_json(run_of(row).run->job), to_json(before));
}

TEST(MeasuredRun, WhatCannotBeModelledHasAReason) {
  const auto reason = [](const char* column, const char* value) {
    auto row = nemo_row();
    row[column] = value;
    const RunOrReason result = run_of(row);
    EXPECT_FALSE(result.run);
    return result.reason;
  };
  EXPECT_NE(reason("hidden", "").find("sizes"), std::string::npos);
  EXPECT_NE(reason("hardware", "TPU v5p").find("TPU v5p"), std::string::npos);
  EXPECT_NE(reason("global_batch", "").find("batch"), std::string::npos);
  EXPECT_NE(reason("notes", "LoRA fine-tuning").find("fine-tuning"), std::string::npos);
  EXPECT_NE(reason("tp", "").find("layout"), std::string::npos);
  EXPECT_NE(reason("tp", "3").find("layout"), std::string::npos);
  for (const char* column : {"dp", "n_gpus", "global_batch"}) {
    EXPECT_NE(reason(column, "0").find(column), std::string::npos);
    EXPECT_NE(reason(column, "-8").find(column), std::string::npos);
  }
}

TEST(MeasuredRun, MegatronFlagsAreRead) {
  auto row = nemo_row();
  row.insert({{"dp", "4"}});
  row["framework"] = "Megatron-LM";
  row["vpp"] = "1";
  row["pp"] = "4";
  row["hardware"] = "dgx_a100";
  row["iter_time_s"] = "100";
  row["flags"] =
      "transformer-impl=local;swiglu;disable-bias-linear;untie-embeddings-and-output-weights;position-embedding-type="
      "rope;hidden-dropout=0.0";
  row["sharding"] = "use-distributed-optimizer";
  const RunOrReason result = run_of(row);
  ASSERT_TRUE(result.run) << result.reason;
  const Job& job = result.run->job;
  EXPECT_TRUE(job.training.has_option("local_layers"));
  EXPECT_EQ(job.training.attention_backend, AttentionBackend::kUnfused);
  EXPECT_EQ(job.parallelism.zero_stage, 1);
  EXPECT_FALSE(job.model.tie_embeddings);
  EXPECT_EQ(job.model.vocab_size % (128 * 4), 0);
  EXPECT_EQ(job.training.attention_dropout, 0.1);
}

TEST(MeasuredRun, LayoutStringsAreExpanded) {
  auto row = nemo_row();
  row["framework"] = "Megatron-LM";
  row["dp"] = "8";
  row["pp"] = "2";
  row["vpp"] = "1";
  row["layers"] = "8";
  row["pp_layout"] = "Et*2|(tt|)*2ttmL";
  row["flags"] = "transformer-impl=transformer_engine;swiglu";
  row["global_batch"] = "256";
  const RunOrReason result = run_of(row);
  ASSERT_TRUE(result.run) << result.reason;
  EXPECT_EQ(result.run->job.parallelism.virtual_pipeline, 2);
  EXPECT_EQ(result.run->job.parallelism.stage_layers, (std::vector<int64_t>{2, 2, 2, 2}));
}

}  // namespace
}  // namespace mmoe
