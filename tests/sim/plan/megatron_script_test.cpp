#include "sim/plan/megatron_script.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sim/units/errors.h"

namespace mmoe {
namespace {

Job job_of(const char* patch) {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model": {"hidden_size": 1024, "num_layers": 10, "num_heads": 8, "vocab_size": 32000, "num_experts": 16,
              "expert_hidden_size": 512, "top_k": 2},
    "hardware": {"device": "h100-sxm-80gb", "num_devices": 16, "devices_per_node": 8},
    "training": {"seq_len": 2048, "micro_batch_size": 1, "global_batch_size": 64, "tokens": 1e9}})");
  json.merge_patch(nlohmann::json::parse(patch));
  return parse_job(json, "job.json", ".");
}

// The value of an argument; "absent" without it.
std::string value(const MegatronScript& script, const std::string& name) {
  for (const auto& [argument, text] : script.arguments) {
    if (argument == name) return text;
  }
  return "absent";
}

std::vector<std::string> unexpressed_keys(const MegatronScript& script) {
  std::vector<std::string> keys;
  for (const UnexpressedSetting& setting : script.unexpressed) keys.push_back(setting.key);
  return keys;
}

TEST(MegatronScript, SaysSizesAndLayout) {
  const MegatronScript script = megatron_script(
      job_of(R"({"parallelism": {"tensor": 2, "pipeline": 2, "expert": 4, "sequence": true, "zero_stage": 1}})"), {});
  EXPECT_EQ(script.num_nodes, 2);
  EXPECT_EQ(script.devices_per_node, 8);
  EXPECT_EQ(value(script, "--num-layers"), "10");
  EXPECT_EQ(value(script, "--moe-router-topk"), "2");
  EXPECT_EQ(value(script, "--moe-router-num-groups"), "absent");
  EXPECT_EQ(value(script, "--tensor-model-parallel-size"), "2");
  EXPECT_EQ(value(script, "--sequence-parallel"), "");
  EXPECT_EQ(value(script, "--use-distributed-optimizer"), "");
  EXPECT_EQ(value(script, "--train-iters"), std::to_string(1000000000 / (64 * 2048)));
  EXPECT_EQ(value(script, "--use-megatron-fsdp"), "absent");
  EXPECT_TRUE(script.unexpressed.empty());
}

TEST(MegatronScript, AsynchronousExpertTransfersAreAsked) {
  const char* kFlag = "--overlap-moe-expert-parallel-comm";
  EXPECT_EQ(value(megatron_script(job_of("{}"), {}), kFlag), "absent");
  EXPECT_EQ(value(megatron_script(job_of(R"({"training": {"options": ["async_expert"]}})"), {}), kFlag), "");
}

// Release 0.16, megatron/training/arguments.py: --optimizer-cpu-offload needs --use-precision-aware-optimizer;
// optimizer_config.py: that needs the distributed optimizer; transformer_config.py: offloaded activations need one
// pipeline rank and no recomputation.
TEST(MegatronScript, OffloadsWhereMegatronCan) {
  const auto script = [](const char* changes) { return megatron_script(job_of(changes), {}); };
  const MegatronScript states = script(R"({"parallelism": {"zero_stage": 1}, "training": {"offload": "optimizer"}})");
  EXPECT_EQ(value(states, "--optimizer-cpu-offload"), "");
  EXPECT_EQ(value(states, "--use-precision-aware-optimizer"), "");
  EXPECT_TRUE(states.unexpressed.empty());
  const MegatronScript whole = script(R"({"parallelism": {"zero_stage": 0}, "training": {"offload": "optimizer"}})");
  EXPECT_EQ(value(whole, "--optimizer-cpu-offload"), "absent");
  EXPECT_EQ(value(whole, "--use-precision-aware-optimizer"), "absent");
  EXPECT_EQ(unexpressed_keys(whole), std::vector<std::string>{"training.offload"});
  const MegatronScript activations = script(R"({"training": {"offload": "activations"}})");
  EXPECT_EQ(value(activations, "--cpu-offloading-num-layers"), "9");
  EXPECT_TRUE(activations.unexpressed.empty());
  for (const char* beside : {R"({"parallelism": {"pipeline": 2}, "training": {"offload": "activations"}})",
                             R"({"training": {"offload": "activations", "recompute": "full"}})"}) {
    const MegatronScript refused = script(beside);
    EXPECT_EQ(value(refused, "--cpu-offloading-num-layers"), "absent") << beside;
    EXPECT_EQ(unexpressed_keys(refused), std::vector<std::string>{"training.offload"}) << beside;
  }
}

TEST(MegatronScript, UnevenChunksAreALayoutString) {
  const MegatronScript even = megatron_script(job_of(R"({"parallelism": {"pipeline": 2}})"), {});
  EXPECT_EQ(value(even, "--pipeline-model-parallel-layout"), "absent");
  const MegatronScript uneven = megatron_script(job_of(R"({"parallelism": {"pipeline": 4}})"), {});
  EXPECT_EQ(value(uneven, "--pipeline-model-parallel-layout"), "Ettt|ttt|tt|ttL");
  const MegatronScript interleaved = megatron_script(
      job_of(R"({"parallelism": {"pipeline": 2, "virtual_pipeline": 5, "schedule": "interleaved"}})"), {});
  EXPECT_EQ(value(interleaved, "--num-virtual-stages-per-pipeline-rank"), "5");
}

TEST(MegatronScript, RoutingWeightsFollowTheOrderOfSoftmaxAndChoice) {
  EXPECT_EQ(value(megatron_script(job_of("{}"), {}), "--moe-router-pre-softmax"), "");
  const char* const selected = R"({"model": {"gate_normalization": "selected"}})";
  EXPECT_EQ(value(megatron_script(job_of(selected), {}), "--moe-router-pre-softmax"), "absent");
  // With one expert the weight would be 1 and the router without a gradient; Megatron refuses that.
  const MegatronScript one = megatron_script(job_of(selected), 1);
  EXPECT_EQ(value(one, "--moe-router-pre-softmax"), "");
  EXPECT_EQ(unexpressed_keys(one), std::vector<std::string>{"model.gate_normalization"});
}

TEST(MegatronScript, DrawnKNeedsAFixedOne) {
  const Job job = job_of(R"({"model": {"top_k": 0}, "elastic": {"k_min": 1, "k_max": 6,
                             "budget": {"kind": "at_most", "sum_k": 40}}})");
  EXPECT_THROW(megatron_script(job, {}), ConfigError);
  EXPECT_THROW(megatron_script(job, 17), ConfigError);
  const MegatronScript script = megatron_script(job, 4);
  EXPECT_EQ(value(script, "--moe-router-topk"), "4");
  EXPECT_EQ(unexpressed_keys(script),
            (std::vector<std::string>{"elastic.k_min..k_max", "elastic.sampling", "elastic.budget"}));
  EXPECT_NE(script.text().find("#   elastic.budget = at_most"), std::string::npos);
}

TEST(MegatronScript, RefusesAPrecisionThatMegatronLacks) {
  EXPECT_THROW(megatron_script(job_of(R"({"training": {"precision": "fp64"}})"), {}), ConfigError);
}

TEST(MegatronScript, WritesRecomputedModulesAsSeveralWords) {
  const MegatronScript script =
      megatron_script(job_of(R"({"training": {"recompute": ["core_attention", "attention", "norm"]}})"), {});
  EXPECT_EQ(value(script, "--recompute-modules"), "core_attn layernorm");
  EXPECT_NE(script.text().find("--recompute-modules core_attn layernorm\n"), std::string::npos);
  const MegatronScript full = megatron_script(job_of(R"({"training": {"recompute": "full"}})"), {});
  EXPECT_EQ(value(full, "--recompute-granularity"), "full");
}

}  // namespace
}  // namespace mmoe
