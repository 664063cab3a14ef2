#include "train/interchange/foreign_config.h"

#include <gtest/gtest.h>

#include "sim/config/hf_config.h"
#include "sim/units/errors.h"
#include "tests/train/trainer_testing.h"

namespace mmoe {
namespace {

struct Case {
  const char *model, *type;
};

class ForeignConfig : public testing::TestWithParam<Case> {};

// What is written is read back as the model that it stands for.
TEST_P(ForeignConfig, IsReadBackAsTheSameModel) {
  const Job job = small_job(GetParam().model);
  const ForeignModel foreign = foreign_model(job, 3, at::kBFloat16, nlohmann::json::object());
  EXPECT_EQ(foreign.model_type, GetParam().type);
  const ModelConfig read = parse_hf_config(foreign.config, "config.json");
  const ModelConfig& written = foreign.model;
  EXPECT_EQ(read.hidden_size, written.hidden_size);
  EXPECT_EQ(read.num_layers, written.num_layers);
  EXPECT_EQ(read.num_kv_heads, written.num_kv_heads);
  EXPECT_EQ(read.head_dim, written.head_dim);
  EXPECT_EQ(read.num_experts, written.num_experts);
  EXPECT_EQ(read.expert_hidden_size, written.expert_hidden_size);
  EXPECT_EQ(read.num_dense_layers, written.num_dense_layers);
  EXPECT_EQ(read.dense_hidden_size, written.dense_hidden_size);
  EXPECT_EQ(read.shared_expert_hidden_size, written.shared_expert_hidden_size);
  EXPECT_EQ(read.qkv_bias, written.qkv_bias);
  EXPECT_EQ(read.qk_norm, written.qk_norm);
  EXPECT_EQ(read.gate_normalization, written.gate_normalization);
  EXPECT_EQ(read.rope_theta, written.rope_theta);
  EXPECT_EQ(read.rms_norm_eps, written.rms_norm_eps);
  EXPECT_EQ(read.tie_embeddings, written.tie_embeddings);
  EXPECT_EQ(read.top_k, written.num_experts > 0 ? 3 : 0);
}

INSTANTIATE_TEST_SUITE_P(
    , ForeignConfig,
    testing::Values(
        Case{"{}", "qwen2_moe"}, Case{R"({"model": {"gate_normalization": "selected"}})", "mixtral"},
        Case{R"({"model": {"qk_norm": "full", "rope_theta": 5e5, "rms_norm_eps": 1e-6}})", "olmoe"},
        Case{R"({"model": {"qk_norm": "per_head", "num_kv_heads": 2, "tie_embeddings": true}})", "qwen3_moe"},
        Case{R"({"model": {"qk_norm": "per_head", "num_dense_layers": 1, "dense_hidden_size": 40}})", "qwen3_moe"},
        Case{R"({"model": {"shared_expert_hidden_size": 24, "shared_expert_gate": true, "qkv_bias": true}})",
             "qwen2_moe"},
        Case{R"({"model": {"num_experts": 0, "expert_hidden_size": 0, "dense_hidden_size": 40}, "elastic": null})",
             "llama"}));

TEST(ForeignModel, KeepsTokenIdsAndPositionsOfTheImportedConfig) {
  const Job job = small_job("{}");
  const nlohmann::json imported = {{"eos_token_id", {5, 6}}, {"max_position_embeddings", 4096}, {"vocab_size", 1}};
  const ForeignModel foreign = foreign_model(job, 1, at::kFloat, imported);
  EXPECT_EQ(foreign.config["eos_token_id"], nlohmann::ordered_json({5, 6}));
  EXPECT_TRUE(foreign.config["bos_token_id"].is_null());
  EXPECT_EQ(foreign.config["max_position_embeddings"], 4096);
  EXPECT_EQ(foreign.config["vocab_size"], job.model.vocab_size);
}

TEST(ForeignModel, RefusesWhatNoStockClassComputes) {
  for (const char* model :
       {R"({"model": {"gate_normalization": "reference"}, "elastic": {"k_reference": 4}})",
        R"({"model": {"shared_expert_hidden_size": 24}})", R"({"model": {"qk_norm": "full", "qkv_bias": true}})",
        R"({"model": {"qk_norm": "full", "num_dense_layers": 1, "dense_hidden_size": 40}})"}) {
    EXPECT_THROW(foreign_model(small_job(model), 1, at::kFloat, nullptr), ConfigError) << model;
  }
}

}  // namespace
}  // namespace mmoe
