// Every class of mistake in a job file, and what its one line must say.

#include <gtest/gtest.h>

#include "sim/config/job.h"
#include "sim/config/json_text.h"
#include "sim/units/errors.h"
#include "tests/sim/config/example_job.h"

namespace mmoe {
namespace {

struct Mistake {
  const char* name;
  std::vector<std::pair<const char*, const char*>> changes;  // dotted key, JSON value
  std::vector<const char*> fragments;                        // what the line must hold
};

class JobMistake : public testing::TestWithParam<Mistake> {};

TEST_P(JobMistake, IsOneHelpfulLine) {
  nlohmann::json job = example_job();
  for (const auto& [key, value] : GetParam().changes) job = changed(job, key, nlohmann::json::parse(value));
  try {
    parse_job(job, "job.json", "/");
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    const std::string line = error.what();
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
    EXPECT_TRUE(line.starts_with("job.json: ")) << line;
    for (const char* fragment : GetParam().fragments) {
      EXPECT_NE(line.find(fragment), std::string::npos) << "no \"" << fragment << "\" in: " << line;
    }
  }
}

const Mistake kMistakes[] = {
    // Unknown keys, with the nearest known one.
    {"unknown_key", {{"parallelism.tensr", "2"}}, {"unknown key parallelism.tensr", "parallelism.tensor"}},
    {"unknown_section", {{"modle", "{}"}}, {"unknown key modle", "did you mean model"}},
    {"key_in_the_wrong_section", {{"training.k_max", "4"}}, {"unknown key training.k_max", "elastic.k_max"}},
    {"unknown_key_in_budget",
     {{"elastic.budget", R"({"sum_k": 20, "kin": "exact"})"}},
     {"elastic.budget.kin", "elastic.budget.kind"}},
    {"unknown_load_law", {{"training.moe.load", R"({"zpf": 1})"}}, {"training.moe.load.zpf", "zipf"}},
    // Types.
    {"text_for_number", {{"training.seq_len", R"("long")"}}, {R"(training.seq_len = "long")", "text", "whole number"}},
    {"fraction_for_count", {{"model.num_layers", "2.5"}}, {"model.num_layers = 2.5", "whole number"}},
    {"number_for_truth", {{"parallelism.sequence", "1"}}, {"parallelism.sequence = 1", "true or false"}},
    {"list_for_section", {{"training", "[1]"}}, {"training = [1]", "a list", "object"}},
    {"number_for_word", {{"training.precision", "16"}}, {"training.precision = 16", "fp32, bf16"}},
    {"null", {{"training.seq_len", "null"}}, {"training.seq_len = null"}},
    {"negative_seed", {{"training.seed", "-1"}}, {"training.seed = -1", "from 0"}},
    {"unknown_word", {{"training.precision", R"("bf61")"}}, {"training.precision", "did you mean \"bf16\"?", "fp64"}},
    {"unknown_granularity", {{"elastic.granularity", R"("layers")"}}, {"elastic.granularity", "\"layer\""}},
    {"auto_where_nothing_chooses", {{"training.seq_len", R"("auto")"}}, {"training.seq_len", "automatically"}},
    // Sizes.
    {"zero_layers", {{"model.num_layers", "0"}}, {"model.num_layers = 0", "at least 1"}},
    {"negative_batch", {{"training.micro_batch_size", "-2"}}, {"training.micro_batch_size = -2", "at least 1"}},
    {"absurd_size", {{"model.hidden_size", "1e30"}}, {"model.hidden_size", "too large"}},
    {"absurd_product",
     {{"model.hidden_size", "4194304"}, {"model.expert_hidden_size", "4194304"}, {"model.num_experts", "65536"}},
     {"parameters", "check hidden_size"}},
    {"negative_learning_rate", {{"training.learning_rate", "-0.1"}}, {"training.learning_rate", "too small"}},
    {"zero_learning_rate", {{"training.learning_rate", "0"}}, {"training.learning_rate = 0", "above 0"}},
    {"beta_of_one", {{"training.beta2", "1"}}, {"training.beta2 = 1", "below 1"}},
    // Model.
    {"heads_do_not_divide",
     {{"model.num_heads", "6"}, {"model.num_kv_heads", "6"}},
     {"model.num_heads = 6", "128", "use 4 or 8", "head_dim"}},
    {"kv_heads_do_not_divide",
     {{"model.num_kv_heads", "3"}},
     {"model.num_kv_heads = 3", "model.num_heads = 4", "use 2 or 4"}},
    {"odd_head_dim", {{"model.head_dim", "33"}}, {"model.head_dim = 33", "odd"}},
    {"top_k_above_experts", {{"model.top_k", "17"}}, {"model.top_k = 17", "model.num_experts = 16"}},
    {"groups_do_not_divide",
     {{"model.n_group", "3"}},
     {"model.n_group = 3", "does not divide", "model.num_experts = 16"}},
    {"more_groups_than_there_are", {{"model.topk_group", "2"}}, {"model.topk_group = 2", "model.n_group = 1"}},
    {"groups_too_small", {{"model.n_group", "8"}}, {"elastic.k_max", "more than the experts of model.topk_group = 1"}},
    {"no_expert_width", {{"model.expert_hidden_size", "0"}}, {"model.expert_hidden_size = 0", "at least 1"}},
    {"dense_layers_without_width", {{"model.num_dense_layers", "1"}}, {"model.dense_hidden_size = 0", "dense"}},
    {"all_layers_dense",
     {{"model.num_dense_layers", "8"}, {"model.dense_hidden_size", "64"}},
     {"model.num_dense_layers = 8", "no MoE layer"}},
    {"unknown_preset", {{"model", R"("olmoe-1b-7")"}}, {"olmoe-1b-7b", "mixtral-8x7b"}},
    {"preset_and_hf",
     {{"model.preset", R"("olmoe-1b-7b")"}, {"model.hf_config", R"("c.json")"}},
     {"model.preset", "hf_config"}},
    {"no_sizes", {{"model", R"({"num_layers": 2})"}}, {"model.hidden_size is missing", "hf_config"}},
    // Hardware.
    {"unknown_device",
     {{"hardware.device", R"("h100-sxm-80g")"}},
     {"hardware.device", "did you mean \"h100-sxm-80gb\"", "cpu"}},
    {"no_device", {{"hardware", "{}"}}, {"hardware.device is missing", "cpu"}},
    {"more_memory_than_there_is",
     {{"hardware.usable_memory_gib", "90"}},
     {"hardware.usable_memory_gib = 90", "80.00 GiB"}},
    {"no_memory", {{"hardware.usable_memory_gib", "0"}}, {"hardware.usable_memory_gib = 0", "above 0"}},
    {"broken_nodes", {{"hardware.num_devices", "12"}}, {"hardware.num_devices = 12", "devices_per_node = 8", "16"}},
    {"unknown_cluster", {{"hardware.cluster", R"("dgx-h10")"}}, {"hardware.cluster", "dgx-h100"}},
    // Parallelism.
    {"expert_does_not_divide",
     {{"model.num_experts", "64"}, {"parallelism.expert", "6"}},
     {"parallelism.expert = 6 does not divide model.num_experts = 64 (each rank holds whole experts); use 4 or 8"}},
    {"tensor_does_not_divide_heads",
     {{"parallelism.tensor", "8"}},
     {"parallelism.tensor = 8", "model.num_heads = 4", "use 4"}},
    {"tensor_does_not_divide_kv_heads",
     {{"parallelism.tensor", "4"}},
     {"parallelism.tensor = 4", "model.num_kv_heads = 2"}},
    {"expert_tensor",
     {{"parallelism.expert_tensor", "3"}},
     {"parallelism.expert_tensor = 3", "expert_hidden_size = 64"}},
    {"data_size_not_whole",
     {{"parallelism.pipeline", "3"}},
     {"hardware.num_devices = 8", "tensor x pipeline x context", "whole", "9"}},
    {"expert_data_size_not_whole",
     {{"parallelism.expert", "16"}},
     {"hardware.num_devices = 8", "expert x expert_tensor", "16"}},
    {"more_stages_than_layers",
     {{"parallelism.pipeline", "16"}},
     {"parallelism.pipeline = 16", "model.num_layers = 8"}},
    {"more_chunks_than_layers",
     {{"parallelism.pipeline", "8"}, {"parallelism.virtual_pipeline", "2"}},
     {"parallelism.virtual_pipeline = 2", "16"}},
    {"virtual_without_pipeline",
     {{"parallelism.virtual_pipeline", "2"}},
     {"parallelism.virtual_pipeline = 2", "pipeline above 1"}},
    {"interleaved_without_chunks", {{"parallelism.schedule", R"("interleaved")"}}, {"interleaved", "at least 2"}},
    {"zero_group", {{"parallelism.zero_group", "3"}}, {"parallelism.zero_group = 3", "data parallel size 8"}},
    {"zero_group_of_experts",
     {{"parallelism.zero_group", "2"}, {"parallelism.expert", "4"}},
     {"parallelism.zero_group = 2", "4 sharded copies", "expert data parallel size 2"}},
    {"zero_stage", {{"parallelism.zero_stage", "4"}}, {"parallelism.zero_stage = 4", "at most 3"}},
    // Training.
    {"batch_does_not_divide",
     {{"training.global_batch_size", "40"}},
     {"training.global_batch_size = 40", "2 x 8 = 16", "use 32 or 48"}},
    {"batch_too_small", {{"training.global_batch_size", "8"}}, {"training.global_batch_size = 8", "use 16"}},
    {"interleaved_batch",
     {{"parallelism.pipeline", "2"}, {"parallelism.virtual_pipeline", "2"}, {"training.global_batch_size", "24"}},
     {"training.global_batch_size = 24", "3 micro-batches", "parallelism.pipeline = 2"}},
    {"context_slices", {{"parallelism.context", "8"}, {"training.seq_len", "200"}}, {"training.seq_len = 200", "16"}},
    {"sequence_parallel",
     {{"parallelism.tensor", "2"}, {"parallelism.sequence", "true"}, {"training.seq_len", "255"}},
     {"training.seq_len = 255", "sequence"}},
    {"unknown_module", {{"training.recompute", R"(["attn"])"}}, {"training.recompute", "attn", "attention, moe"}},
    {"expert_saving", {{"training.expert_saving", R"("some")"}}, {"training.expert_saving", "all, lean, recompute"}},
    {"expert_saving_of_another_framework",
     {{"training.expert_saving", R"("all")"}, {"training.framework", R"("megatron_core")"}},
     {"training.expert_saving = \"all\"", "megatron_core", "recompute"}},
    {"operations", {{"training.operations", R"("torch")"}}, {"training.operations", "kernels", "aten"}},
    {"packing", {{"training.packing", R"("tight")"}}, {"training.packing", "concatenate", "best_fit"}},
    {"offload", {{"training.offload", R"("weights")"}}, {"training.offload = \"weights\"", "none"}},
    {"precision_the_device_lacks",
     {{"hardware.device", R"("a100-sxm-80gb")"}, {"training.precision", R"("fp8")"}},
     {"training.precision = \"fp8\"", "a100-sxm-80gb"}},
    {"fp8_optimizer", {{"training.optimizer_precision", R"("fp8")"}}, {"training.optimizer_precision", "Adam"}},
    {"zipf_without_exponent", {{"training.moe.load", R"("zipf")"}}, {"training.moe.load", "parameter"}},
    {"unknown_load", {{"training.moe.load", R"("skewed")"}}, {"training.moe.load = \"skewed\"", "balanced"}},
    // Elastic.
    {"k_max_above_experts", {{"elastic.k_max", "17"}}, {"elastic.k_max = 17", "model.num_experts = 16"}},
    {"k_min_above_k_max", {{"elastic.k_min", "7"}}, {"elastic.k_min = 7", "elastic.k_max = 6"}},
    {"k_min_zero", {{"elastic.k_min", "0"}}, {"elastic.k_min = 0", "at least 1"}},
    {"fixed_needs_one_k", {{"elastic.sampling", R"("fixed")"}}, {"elastic.k_min = 1", "elastic.k_max = 6", "fixed"}},
    {"tau_zero", {{"elastic.tau", "0"}}, {"elastic.tau = 0", "above 0"}},
    {"top_p_above_one", {{"elastic.top_p", "1.5"}}, {"elastic.top_p = 1.5", "at most 1"}},
    {"no_k_max", {{"elastic", "{}"}}, {"elastic.k_max is missing"}},
    {"k_reference", {{"elastic.k_reference", "20"}}, {"elastic.k_reference = 20", "16"}},
    {"tilted_without_mean", {{"elastic.sampling", R"("tilted")"}}, {"elastic.mean_k", "mean of k"}},
    {"tilted_beyond_k_max",
     {{"elastic.sampling", R"("tilted")"}, {"elastic.mean_k", "6"}},
     {"elastic.mean_k = 6", "strictly between"}},
    {"clip_to_an_exact_sum",
     {{"elastic.budget", R"({"kind": "exact", "sum_k": 20, "method": "clip"})"}},
     {"elastic.budget.method = clip", "use at_most"}},
    {"reject_with_one_k",
     {{"elastic.granularity", R"("micro_batch")"}, {"elastic.budget", R"({"sum_k": 20, "method": "reject"})"}},
     {"elastic.budget.method = reject", "granularity = layer"}},
    {"budget_with_top_p",
     {{"elastic.sampling", R"("top_p")"}, {"elastic.budget", R"({"sum_k": 20})"}},
     {"elastic.budget", "top_p"}},
    {"auto_budget_with_top_p",
     {{"elastic.sampling", R"("top_p")"}, {"elastic.budget", R"("auto")"}},
     {"elastic.budget", "top_p"}},
    {"budget_below_least",
     {{"elastic.budget", R"({"sum_k": 7})"}},
     {"elastic.budget.sum_k = 7", "below the least", "8 MoE layers", "at least 8"}},
    {"budget_above_largest",
     {{"elastic.budget", R"({"sum_k": 49})"}},
     {"elastic.budget.sum_k = 49", "above the largest", "at most 48"}},
    {"budget_without_bound", {{"elastic.budget", R"({"kind": "exact"})"}}, {"elastic.budget.sum_k is missing"}},
    {"budget_word", {{"elastic.budget", R"("tight")"}}, {"elastic.budget = \"tight\"", "object"}},
    {"exact_no_multiple",
     {{"elastic.granularity", R"("micro_batch")"}, {"elastic.budget", R"({"kind": "exact", "sum_k": 20})"}},
     {"elastic.budget.sum_k = 20", "no multiple", "8", "use 16 or 24"}},
    {"exact_two_k",
     {{"elastic.granularity", R"("global_batch")"},
      {"elastic.budget", R"({"kind": "exact", "sum_k": [8, 16], "groups": [4, 4]})"}},
     {"elastic.budget.sum_k[1] = 16", "k = 4", "k = 2"}},
    {"groups_do_not_sum",
     {{"elastic.budget", R"({"sum_k": 20, "groups": [4, 3]})"}},
     {"elastic.budget.groups = [4,3]", "sums to 7", "8 MoE layers"}},
    {"empty_group",
     {{"elastic.budget", R"({"sum_k": 20, "groups": [8, 0]})"}},
     {"elastic.budget.groups", "without layers"}},
    {"bounds_and_groups",
     {{"elastic.budget", R"({"sum_k": [10, 10, 10]})"}},
     {"elastic.budget.sum_k", "3 bounds for 1 groups"}},
    {"one_group_too_tight",
     {{"elastic.budget", R"({"sum_k": [20, 3], "groups": [4, 4]})"}},
     {"elastic.budget.sum_k[1] = 3", "at least 4"}},
    {"window_below_least",
     {{"parallelism.pipeline", "2"}, {"elastic.budget", R"({"kind": "window", "sum_k": [7, 4]})"}},
     {"elastic.budget.sum_k[0] = 7", "window", "2 micro-batches", "8"}},
    {"window_above_largest",
     {{"parallelism.pipeline", "2"}, {"elastic.budget", R"({"kind": "window", "sum_k": [48, 25]})"}},
     {"elastic.budget.sum_k[1] = 25", "window", "1 micro-batches", "24"}},
    {"elastic_for_a_dense_model",
     {{"model",
       R"({"hidden_size": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 256, "dense_hidden_size": 128})"}},
     {"elastic needs an MoE model"}},
    // Loop.
    {"split_sum", {{"data.split", "[0.5, 0.2, 0.2, 0.2]"}}, {"data.split", "sum to 1"}},
    {"split_length", {{"data.split", "[0.5, 0.5]"}}, {"data.split", "four"}},
    {"tokenizer", {{"data.tokenizer", R"("bpe")"}}, {"data.tokenizer = \"bpe\"", "sentencepiece"}},
    {"mean_k_above_k_max", {{"loop.allocation_mean_k", "7"}}, {"loop.allocation_mean_k = 7", "elastic.k_max = 6"}},
};

INSTANTIATE_TEST_SUITE_P(, JobMistake, testing::ValuesIn(kMistakes),
                         [](const auto& row) { return std::string(row.param.name); });

struct BrokenText {
  const char* name;
  const char* text;
  std::vector<const char*> fragments;
};

class BrokenJson : public testing::TestWithParam<BrokenText> {};

TEST_P(BrokenJson, NamesThePlace) {
  try {
    parse_json(GetParam().text, "job.json");
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    const std::string line = error.what();
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
    for (const char* fragment : GetParam().fragments) EXPECT_NE(line.find(fragment), std::string::npos) << line;
  }
}

const BrokenText kBrokenTexts[] = {
    {"missing_comma", "{\n  \"a\": 1\n  \"b\": 2\n}", {"job.json:3:", "no valid JSON"}},
    {"trailing_comma", "{\"a\": 1,}", {"job.json:1:9:"}},
    {"empty", "  \n", {"job.json is empty"}},
    {"truncated", "{\"a\": [1, 2", {"job.json:1:", "unexpected end of input"}},
    {"duplicate", R"({"model": {"num_layers": 1, "num_layers": 2}})", {"model.num_layers is given twice"}},
    {"huge_number", R"({"a": 1e999})", {"job.json", "1e999"}},
    {"no_utf8", "{\"a\": \"\xff\"}", {"job.json:1:", "UTF-8"}},
};
INSTANTIATE_TEST_SUITE_P(, BrokenJson, testing::ValuesIn(kBrokenTexts),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(BrokenFile, MissingFileAndFolder) {
  EXPECT_THROW(load_job("/no/such/job.json"), ConfigError);
  try {
    load_job("/no/such/job.json");
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("No such file"), std::string::npos) << error.what();
  }
  EXPECT_THROW(load_job("/"), ConfigError);
}

}  // namespace
}  // namespace mmoe
