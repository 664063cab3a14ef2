#include "sim/config/job.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "profiles/presets/embedded.h"
#include "sim/config/device_file.h"
#include "sim/config/job_key.h"
#include "sim/config/json_text.h"
#include "sim/units/errors.h"
#include "tests/sim/config/example_job.h"

namespace mmoe {
namespace {

Job parse(const nlohmann::json& json, const Overrides& overrides = {}) {
  return parse_job(json, "job.json", "/jobs", overrides);
}

TEST(Job, DefaultsFollowTheContract) {
  const Job job = parse(example_job());
  EXPECT_EQ(job.model.head_dim, 32);
  EXPECT_EQ(job.hardware.devices_per_node, 8);
  EXPECT_EQ(job.data_parallel_size(), 8);
  EXPECT_EQ(job.num_micro_batches(), 2);
  EXPECT_EQ(job.training.precision, Precision::kBf16);
  EXPECT_EQ(job.training.optimizer_precision, Precision::kFp32);
  EXPECT_EQ(job.elastic.granularity, Granularity::kLayer);
  EXPECT_EQ(job.elastic.sampling, Sampling::kUniform);
  EXPECT_EQ(job.elastic.k_reference, 6);
  EXPECT_FALSE(job.elastic.budget.has_value());
  EXPECT_LT(job.hardware.usable_memory, job.hardware.spec.memory);
}

TEST(Job, RemembersWhatWasGivenNotWhatIsAutomatic) {
  const Job job = parse(changed(changed(example_job(), "parallelism.pipeline", "auto"), "elastic.budget", "auto"));
  EXPECT_TRUE(job.given.contains("training.seq_len"));
  EXPECT_TRUE(job.given.contains("parallelism.tensor"));
  EXPECT_FALSE(job.given.contains("parallelism.expert"));
  EXPECT_FALSE(job.given.contains("parallelism.pipeline"));
  EXPECT_FALSE(job.given.contains("elastic.budget"));
  EXPECT_TRUE(job.elastic.budget_is_auto);
}

// "auto" leaves a choice to a search; of what changes what is trained, or names a machine, there is none.
TEST(Job, AKeyIsSearchedOrCannotBeAuto) {
  const std::set<std::string> searched = {"parallelism.tensor",
                                          "parallelism.sequence",
                                          "parallelism.context",
                                          "parallelism.pipeline",
                                          "parallelism.expert",
                                          "parallelism.expert_tensor",
                                          "parallelism.zero_stage",
                                          "parallelism.zero_group",
                                          "parallelism.virtual_pipeline",
                                          "parallelism.context_kind",
                                          "parallelism.stage_layers",
                                          "parallelism.schedule",
                                          "training.recompute",
                                          "training.expert_saving",
                                          "training.recompute_num_layers",
                                          "training.overlap",
                                          "training.offload",
                                          "training.micro_batch_size",
                                          "training.moe.dispatcher",
                                          "elastic.budget"};
  for (const JobKey& key : job_key_table()) {
    const std::string name(key.name);
    EXPECT_EQ(key.may_be_auto, searched.contains(name)) << name;
    const nlohmann::json json = changed(example_job(), name, "auto");
    const auto load = [&] { return parse_job(json, "job.json", "/", {}, Layout::kOpen); };
    if (!key.may_be_auto) {
      EXPECT_THROW(load(), ConfigError) << name;
      continue;
    }
    EXPECT_FALSE(load().given.contains(name)) << name;
  }
}

TEST(Job, WithoutElasticKIsFixedAtTopK) {
  nlohmann::json json = changed(example_job(), "model.top_k", 4);
  json.erase("elastic");
  const Job job = parse(json);
  EXPECT_EQ(job.elastic.sampling, Sampling::kFixed);
  EXPECT_EQ(job.elastic.k_min, 4);
  EXPECT_EQ(job.elastic.k_max, 4);
  json["model"].erase("top_k");
  EXPECT_THROW(parse(json), ConfigError);
}

TEST(Job, GlobalBatchDefaultsToOneMicroBatchAReplica) {
  nlohmann::json json = example_job();
  json["training"].erase("global_batch_size");
  EXPECT_EQ(parse(json).training.global_batch_size, 16);
}

TEST(Job, BudgetGroupsDefaultToPipelineRanks) {
  nlohmann::json json = changed(example_job(), "elastic.budget", {{"sum_k", 12}});
  EXPECT_THROW(parse(changed(json, "elastic.budget.sum_k", 49)), ConfigError);
  json = changed(json, "parallelism.pipeline", 4);
  const Budget two_each = *parse(json).elastic.budget;
  EXPECT_EQ(two_each.groups, (std::vector<int64_t>{2, 2, 2, 2}));
  EXPECT_EQ(two_each.sum_k, (std::vector<int64_t>{12, 12, 12, 12}));
  EXPECT_EQ(two_each.group_layers()[1], (std::vector<int64_t>{2, 3}));
}

TEST(Job, InterleavedRanksHoldLayersFromSeveralPlaces) {
  nlohmann::json json = changed(example_job(), "parallelism", {{"pipeline", 2}, {"virtual_pipeline", 2}});
  const Job job = parse(changed(json, "elastic.budget", {{"sum_k", 12}}));
  EXPECT_EQ(job.parallelism.schedule, PipelineSchedule::kInterleaved);
  EXPECT_EQ(job.elastic.budget->group_layers(), (std::vector<std::vector<int64_t>>{{0, 1, 4, 5}, {2, 3, 6, 7}}));
}

TEST(Job, RanksWithoutMoeLayersHaveNoGroup) {
  nlohmann::json json = changed(example_job(), "model.num_dense_layers", 3);
  json = changed(changed(json, "model.dense_hidden_size", 64), "parallelism.pipeline", 4);
  const Job job = parse(changed(json, "elastic.budget", {{"sum_k", 6}}));
  EXPECT_EQ(job.elastic.budget->groups, (std::vector<int64_t>{1, 2, 2}));
}

TEST(Job, PathsAreRelativeToTheFile) {
  nlohmann::json json = changed(example_job(), "data.text", {"a.txt", "/b.txt", "../c.txt"});
  EXPECT_EQ(parse(json).data.text, (std::vector<std::string>{"/jobs/a.txt", "/b.txt", "/c.txt"}));
  EXPECT_EQ(parse(changed(example_job(), "training.moe.load", "load.csv")).training.moe.load_file, "/jobs/load.csv");
}

TEST(Job, LoadLaws) {
  const auto load = [](const nlohmann::json& value) {
    return parse(changed(example_job(), "training.moe.load", value)).training.moe;
  };
  EXPECT_EQ(load("balanced").load, LoadKind::kBalanced);
  EXPECT_EQ(load("zipf:1.2").load, LoadKind::kZipf);
  EXPECT_EQ(load("zipf:1.2").load_parameter, 1.2);
  EXPECT_EQ(load({{"dirichlet", 5}}).load, LoadKind::kDirichlet);
  EXPECT_EQ(load({{"dirichlet", 5}}).load_parameter, 5);
}

TEST(Job, RecomputeWords) {
  const auto recompute = [](const nlohmann::json& value) {
    return parse(changed(example_job(), "training.recompute", value)).training.recompute;
  };
  EXPECT_FALSE(recompute("none").has("moe"));
  EXPECT_TRUE(recompute("full").has("moe"));
  EXPECT_TRUE(recompute({"moe"}).has("moe"));
  EXPECT_FALSE(recompute({"moe"}).has("attention"));
}

TEST(Job, FrozenPartsAreThoseOfTheModel) {
  const auto freeze = [](const nlohmann::json& value, const nlohmann::json& base = example_job()) {
    return parse(changed(base, "training.freeze", value)).training;
  };
  EXPECT_TRUE(freeze("router").freezes("router"));
  const TrainingConfig two = freeze({"embedding", "experts"});
  EXPECT_TRUE(two.freezes("experts"));
  EXPECT_FALSE(two.freezes("norms"));
  EXPECT_EQ(parse(to_json(parse(changed(example_job(), "training.freeze", {"head"})))).training.freeze,
            std::vector<std::string>{"head"});
  const auto refused = [&](const nlohmann::json& value, const nlohmann::json& base, const std::string& word) {
    try {
      freeze(value, base);
      ADD_FAILURE() << value;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("training.freeze"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refused({"experts", "gates"}, example_job(), "\"gates\"; use a list of embedding, attention");
  refused({"shared_expert"}, example_job(), "no part of this model; it has embedding, attention, norms, router");
  refused({"head"}, changed(example_job(), "model.tie_embeddings", true), "freeze \"embedding\"");
  refused({"embedding", "attention", "norms", "router", "experts", "head"}, example_job(), "nothing to train");
}

TEST(Job, Fp64IsFp64Throughout) {
  EXPECT_EQ(parse(changed(example_job(), "training.precision", "fp64")).training.optimizer_precision, Precision::kFp64);
}

TEST(Job, ADeviceCanBeAFile) {
  const std::string path = testing::TempDir() + "my-gpu.json";
  std::ofstream(path) << *embedded_file("hardware/h100-sxm-80gb.json");
  const Job job = parse(changed(example_job(), "hardware.device", path));
  EXPECT_EQ(job.hardware.device, path);
  EXPECT_EQ(job.hardware.spec.name, "h100-sxm-80gb");
  EXPECT_EQ(job.hardware.spec.memory, gib(80));
  std::filesystem::remove(path);
  EXPECT_THROW(parse(changed(example_job(), "hardware.device", path)), ConfigError);
}

TEST(Job, AClusterNamesDeviceAndNodes) {
  nlohmann::json json = changed(example_job(), "hardware", {{"cluster", "dgx-h200"}, {"num_devices", 16}});
  const Job job = parse(json);
  EXPECT_EQ(job.hardware.device, "h200-sxm-141gb");
  EXPECT_EQ(job.hardware.devices_per_node, 8);
  ASSERT_EQ(job.hardware.cluster_spec.levels.size(), 2u);
  EXPECT_EQ(job.hardware.cluster_spec.levels[1].bandwidth, gb_per_s(50));
}

// Every key is written and reads back to the same.
class RoundTrip : public testing::TestWithParam<std::pair<const char*, nlohmann::json>> {};

TEST_P(RoundTrip, ToJsonAndBack) {
  const Job job = parse_job(GetParam().second, "job.json", "/jobs");
  const nlohmann::json written = to_json(job);
  const Job again = parse_job(written, "again.json", "/elsewhere");
  EXPECT_EQ(to_json(again), written);
  EXPECT_EQ(again.hardware.usable_memory, job.hardware.usable_memory);
  EXPECT_EQ(again.training.tokens, job.training.tokens);
  EXPECT_EQ(again.elastic.budget.has_value(), job.elastic.budget.has_value());
  if (job.elastic.budget) {
    EXPECT_EQ(again.elastic.budget->group_layers(), job.elastic.budget->group_layers());
  }
  for (const std::string& key : job_keys()) {
    if (key == "model.preset" || key == "model.hf_config" || key == "hardware.cluster" || key.starts_with("elastic."))
      continue;
    std::string pointer = "/" + key;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    EXPECT_TRUE(written.contains(nlohmann::json::json_pointer(pointer))) << key << " is not written";
  }
}

std::vector<std::pair<const char*, nlohmann::json>> round_trips() {
  const nlohmann::json job = example_job();
  const nlohmann::json piped =
      changed(job, "parallelism", {{"pipeline", 2}, {"virtual_pipeline", 2}, {"tensor", 2}, {"sequence", true}});
  return {
      {"plain", job},
      {"budget", changed(job, "elastic.budget", {{"kind", "exact"}, {"sum_k", 20}})},
      {"groups", changed(job, "elastic.budget", {{"sum_k", {10, 20}}, {"groups", {3, 5}}})},
      {"interleaved", changed(piped, "elastic.budget", {{"sum_k", 12}})},
      {"auto_budget", changed(job, "elastic.budget", "auto")},
      {"preset", changed(job, "model", "olmoe-1b-7b")},
      {"dense",
       {{"model",
         {{"hidden_size", 64}, {"num_layers", 2}, {"num_heads", 2}, {"vocab_size", 256}, {"dense_hidden_size", 128}}},
        {"hardware", {{"device", "cpu"}}},
        {"training", {{"seq_len", 64}, {"precision", "fp32"}}}}},
      {"large_seed", changed(job, "training.seed", 18446744073709551615u)},
      {"awkward_numbers", changed(changed(job, "training.learning_rate", 1.0 / 3), "hardware.usable_memory_gib", 70.1)},
      {"load", changed(job, "training.moe.load", {{"zipf", 1.1}})}};
}
INSTANTIATE_TEST_SUITE_P(, RoundTrip, testing::ValuesIn(round_trips()),
                         [](const auto& row) { return std::string(row.param.first); });

TEST(Overrides, SetTypedValues) {
  const Job job = parse(example_job(), {{"parallelism.tensor", "2"},
                                        {"parallelism.sequence", "true"},
                                        {"training.precision", "fp32"},
                                        {"training.recompute", "attention,moe"},
                                        {"training.learning_rate", "3e-4"},
                                        {"data.split", "0.7,0.1,0.1,0.1"},
                                        {"elastic.budget.sum_k", "30"}});
  EXPECT_EQ(job.parallelism.tensor, 2);
  EXPECT_TRUE(job.parallelism.sequence);
  EXPECT_EQ(job.training.precision, Precision::kFp32);
  EXPECT_EQ(job.training.recompute.modules, (std::vector<std::string>{"attention", "moe"}));
  EXPECT_EQ(job.training.learning_rate, 3e-4);
  EXPECT_EQ(job.data.split[0], 0.7);
  EXPECT_EQ(job.elastic.budget->sum_k, (std::vector<int64_t>{30}));
  EXPECT_TRUE(job.given.contains("parallelism.sequence"));
}

TEST(Overrides, OneKeyOfAPresetKeepsTheOthers) {
  const Job job = parse(changed(example_job(), "model", "olmoe-1b-7b"), {{"model.num_layers", "4"}});
  EXPECT_EQ(job.model.num_layers, 4);
  EXPECT_EQ(job.model.num_experts, 64);
}

TEST(Overrides, AnotherModelReplacesTheInlineOne) {
  const Job job = parse(example_job(), {{"model.num_layers", "3"}, {"model", "olmoe-1b-7b"}});
  EXPECT_EQ(job.model.hidden_size, 2048);
  EXPECT_EQ(job.model.num_layers, 3);
}

TEST(Overrides, ABudgetIsSetAndRemoved) {
  const nlohmann::json with = changed(example_job(), "elastic.budget", {{"sum_k", 20}});
  EXPECT_TRUE(parse(with, {{"elastic.budget", "auto"}}).elastic.budget_is_auto);
  EXPECT_FALSE(parse(with, {{"elastic.budget", "none"}}).elastic.budget.has_value());
  EXPECT_EQ(parse(with, {{"elastic.budget", R"({"sum_k": 24})"}}).elastic.budget->sum_k[0], 24);
  EXPECT_EQ(parse(with, {{"elastic.budget.kind", "exact"}}).elastic.budget->kind, BudgetKind::kExact);
}

TEST(Overrides, PathsAreRelativeToTheWorkingFolder) {
  const Job job = parse(example_job(), {{"data.text", "a.txt,/b.txt"}});
  EXPECT_EQ(job.data.text[0], (std::filesystem::current_path() / "a.txt").string());
  EXPECT_EQ(job.data.text[1], "/b.txt");
}

TEST(Overrides, UnknownKeyIsAnError) { EXPECT_THROW(parse(example_job(), {{"parallelism.tensr", "2"}}), ConfigError); }

}  // namespace
}  // namespace mmoe
