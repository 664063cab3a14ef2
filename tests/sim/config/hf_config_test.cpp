#include "sim/config/hf_config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "sim/config/job.h"
#include "sim/formulas/parameter_counts.h"
#include "sim/units/errors.h"
#include "tests/sim/config/example_job.h"

namespace mmoe {
namespace {

ModelConfig parse(const nlohmann::json& json) {
  const ModelConfig model = parse_hf_config(json, "config.json");
  model.validate("config.json");
  return model;
}

// The keys that matter of meta-llama/Llama-2-70b-hf.
nlohmann::json llama() {
  return nlohmann::json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_key_value_heads": 8,
    "num_hidden_layers": 80, "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false, "vocab_size": 32000})");
}

// Of Qwen/Qwen3-30B-A3B.
nlohmann::json qwen3_moe() {
  return nlohmann::json::parse(
      R"({"model_type": "qwen3_moe", "decoder_sparse_step": 1, "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 2048, "intermediate_size": 6144, "mlp_only_layers": [], "moe_intermediate_size": 768,
    "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 48, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": null, "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 151936})");
}

TEST(HfConfig, LlamaIsDense) {
  const ModelConfig m = parse(llama());
  EXPECT_EQ(m.num_experts, 0);
  EXPECT_EQ(m.num_moe_layers(), 0);
  EXPECT_EQ(m.num_dense_layers, 80);
  EXPECT_EQ(m.dense_hidden_size, 28672);
  EXPECT_EQ(m.head_dim, 128);
  EXPECT_EQ(m.num_kv_heads, 8);
  EXPECT_EQ(m.rms_norm_eps, 1e-5);
}

TEST(HfConfig, LlamaWithoutKvHeadsAndWithTiedEmbeddings) {
  nlohmann::json json = llama();
  json.erase("num_key_value_heads");
  json["tie_word_embeddings"] = true;
  json["rope_parameters"] = {{"rope_theta", 500000.0}, {"rope_type", "default"}};
  const ModelConfig m = parse(json);
  EXPECT_EQ(m.num_kv_heads, 64);
  EXPECT_TRUE(m.tie_embeddings);
  EXPECT_EQ(m.rope_theta, 500000);
}

TEST(HfConfig, Mixtral) {
  const ModelConfig m =
      parse(nlohmann::json::parse(R"({"model_type": "mixtral", "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 14336, "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "num_local_experts": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
    "sliding_window": null, "vocab_size": 32000})"));
  EXPECT_EQ(m.num_experts, 8);
  EXPECT_EQ(m.expert_hidden_size, 14336);
  EXPECT_EQ(m.top_k, 2);
  EXPECT_EQ(m.gate_normalization, GateNormalization::kSelected);
  EXPECT_EQ(m.rope_theta, 1e6);
}

TEST(HfConfig, Qwen2MoeHasASharedExpert) {
  nlohmann::json json = qwen3_moe();
  json["model_type"] = "qwen2_moe";
  json["norm_topk_prob"] = false;
  json["shared_expert_intermediate_size"] = 5632;
  json.erase("head_dim");
  const ModelConfig m = parse(json);
  EXPECT_EQ(m.shared_expert_hidden_size, 5632);
  EXPECT_EQ(m.qk_norm, QkNorm::kNone);
  EXPECT_EQ(m.gate_normalization, GateNormalization::kNone);
  EXPECT_EQ(m.head_dim, 64);
}

TEST(HfConfig, Qwen3Moe) {
  const ModelConfig m = parse(qwen3_moe());
  EXPECT_EQ(m.qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(m.gate_normalization, GateNormalization::kSelected);
  EXPECT_EQ(m.head_dim, 128);
  EXPECT_EQ(m.expert_hidden_size, 768);
  EXPECT_EQ(m.num_dense_layers, 0);
}

TEST(HfConfig, Qwen3Dense) {
  nlohmann::json json = llama();
  json["model_type"] = "qwen3";
  const ModelConfig m = parse(json);
  EXPECT_EQ(m.qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(m.dense_hidden_size, 28672);
}

TEST(HfConfig, DenseLayersAtTheStartAreExpressed) {
  nlohmann::json json = qwen3_moe();
  json["mlp_only_layers"] = {1, 0};
  const ModelConfig m = parse(json);
  EXPECT_EQ(m.num_dense_layers, 2);
  EXPECT_EQ(m.dense_hidden_size, 6144);
}

TEST(HfConfig, Olmoe) {
  const ModelConfig m = parse(nlohmann::json::parse(R"({"model_type": "olmoe", "clip_qkv": null, "hidden_act": "silu",
    "hidden_size": 2048, "intermediate_size": 1024, "norm_topk_prob": false, "num_attention_heads": 16, "num_experts": 64,
    "num_experts_per_tok": 8, "num_hidden_layers": 16, "num_key_value_heads": 16, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "tie_word_embeddings": false, "vocab_size": 50304})"));
  EXPECT_EQ(m.qk_norm, QkNorm::kFull);
  EXPECT_EQ(m.expert_hidden_size, 1024);
  EXPECT_EQ(m.gate_normalization, GateNormalization::kNone);
}

// DeepSeek's MoE part; the real configurations also have kv_lora_rank.
nlohmann::json deepseek() {
  return nlohmann::json::parse(R"({"model_type": "deepseek_v2", "first_k_dense_replace": 1, "hidden_act": "silu",
    "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": null, "moe_intermediate_size": 1408, "moe_layer_freq": 1,
    "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false, "num_attention_heads": 16,
    "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16, "scoring_func": "softmax", "vocab_size": 102400})");
}

TEST(HfConfig, DeepSeekWithoutLatentAttention) {
  const ModelConfig m = parse(deepseek());
  EXPECT_EQ(m.num_dense_layers, 1);
  EXPECT_EQ(m.num_moe_layers(), 26);
  EXPECT_EQ(m.shared_expert_hidden_size, 2816);
}

// The keys and values of DeepSeek-V3's own config.json; 671 B parameters without its further-token layer
// (arXiv:2412.19437).
TEST(HfConfig, DeepSeekV3HasLatentAttentionAndFurtherTokens) {
  const ModelConfig m = parse(nlohmann::json::parse(R"({"model_type": "deepseek_v3", "hidden_size": 7168,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280,
    "intermediate_size": 18432, "first_k_dense_replace": 3, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048, "n_shared_experts": 1, "norm_topk_prob": true, "scoring_func": "sigmoid",
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "num_nextn_predict_layers": 1, "n_group": 8, "topk_group": 4, "topk_method": "noaux_tc", "hidden_act": "silu", "tie_word_embeddings": false})"));
  EXPECT_EQ(m.attention, AttentionKind::kLatent);
  EXPECT_EQ(m.head_dim, 192);
  EXPECT_EQ(m.v_head_dim, 128);
  EXPECT_EQ(m.num_mtp_layers, 1);
  EXPECT_EQ(m.n_group, 8);
  EXPECT_EQ(m.topk_group, 4);
  const ParameterCounts counts = parameter_counts(m);
  EXPECT_NEAR((counts.total() - counts.multi_token) / 1e9, 671, 0.5);  // printed to 1 B
}

// "greedy" chooses among all experts, whatever groups the file names (DeepSeek-V2-Lite).
TEST(HfConfig, GreedyRoutingHasNoGroups) {
  nlohmann::json json = deepseek();
  json["n_group"] = 8;
  json["topk_group"] = 3;
  json["topk_method"] = "group_limited_greedy";
  EXPECT_TRUE(parse(json).limits_groups());
  json["topk_method"] = "greedy";
  EXPECT_FALSE(parse(json).limits_groups());
}

// GPT-2: 124 M parameters, biases, layer norms, learned positions, tied embeddings.
TEST(HfConfig, Gpt2HasItsPublishedSize) {
  const ModelConfig m = parse(nlohmann::json::parse(R"({"model_type": "gpt2", "n_embd": 768, "n_layer": 12,
    "n_head": 12, "n_positions": 1024, "vocab_size": 50257, "activation_function": "gelu_new"})"));
  EXPECT_EQ(m.position, PositionKind::kLearned);
  EXPECT_EQ(parameter_counts(m).total(), 124439808);
}

struct Refusal {
  const char* name;
  nlohmann::json json;
  const char* key;
  nlohmann::json value;
  const char* fragment;
};
class HfRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(HfRefusal, NamesTheKey) {
  nlohmann::json json = GetParam().json;
  json[GetParam().key] = GetParam().value;
  try {
    parse(json);
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    const std::string line = error.what();
    EXPECT_NE(line.find(std::string("config.json: ") + GetParam().key), std::string::npos) << line;
    EXPECT_NE(line.find(GetParam().fragment), std::string::npos) << line;
  }
}

std::vector<Refusal> refusals() {
  return {{"unknown_architecture", llama(), "model_type", "bloom", "mixtral"},
          {"alternating_frequency", deepseek(), "moe_layer_freq", 2, "dense layers"},
          {"alternating_step", qwen3_moe(), "decoder_sparse_step", 2, "only dense layers at the start"},
          {"dense_in_the_middle", qwen3_moe(), "mlp_only_layers", {5}, "only dense layers at the start"},
          {"activation", llama(), "hidden_act", "gelu", "silu"},
          {"sliding_window", llama(), "sliding_window", 4096, "causal"},
          {"wrong_type", llama(), "hidden_size", "big", "whole number"}};
}
INSTANTIATE_TEST_SUITE_P(, HfRefusal, testing::ValuesIn(refusals()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(HfConfig, AJobNamesTheFileOrItsFolder) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "hf_config_test";
  std::filesystem::create_directories(folder / "model");
  std::ofstream(folder / "model" / "config.json") << qwen3_moe();
  nlohmann::json job = changed(example_job(), "model", {{"hf_config", "model/config.json"}, {"num_layers", 4}});
  const Job by_file = parse_job(job, "job.json", folder.string());
  EXPECT_EQ(by_file.model.num_experts, 128);
  EXPECT_EQ(by_file.model.num_layers, 4);  // keys beside hf_config win
  job["model"]["hf_config"] = "model";
  EXPECT_EQ(to_json(parse_job(job, "job.json", folder.string())), to_json(by_file));
  job["model"]["hf_config"] = "none";
  EXPECT_THROW(parse_job(job, "job.json", folder.string()), ConfigError);
  std::filesystem::remove_all(folder);
}

// What follows from the sizes follows from the changed ones: layers of a dense model stay dense, heads share the width.
TEST(HfConfig, SizesBesideTheFileAreCompletedAfterIt) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "hf_config_sizes_test";
  std::filesystem::create_directories(folder);
  nlohmann::json file = llama();
  file.erase("head_dim");
  std::ofstream(folder / "config.json") << file;
  nlohmann::json job = example_job();
  job.erase("elastic");
  job["parallelism"] = nlohmann::json::object();
  job["hardware"]["num_devices"] = 1;
  job["model"] = {{"hf_config", "config.json"}, {"num_layers", 3}, {"hidden_size", 1024}};
  const ModelConfig model = parse_job(job, "job.json", folder.string()).model;
  EXPECT_EQ(model.num_layers, 3);
  EXPECT_EQ(model.num_dense_layers, 3);
  EXPECT_EQ(model.head_dim, 1024 / model.num_heads);
  EXPECT_EQ(model.v_head_dim, model.head_dim);
  std::filesystem::remove_all(folder);
}

TEST(HfConfig, MissingKeyIsNamed) {
  nlohmann::json json = llama();
  json.erase("intermediate_size");
  EXPECT_THROW(parse(json), ConfigError);
  EXPECT_THROW(parse(nlohmann::json::object()), ConfigError);
}

}  // namespace
}  // namespace mmoe
