#include "sim/plan/trainer_layout.h"

#include <gtest/gtest.h>

#include <map>

#include "sim/config/parameter_parts.h"
#include "sim/formulas/parameter_counts.h"

namespace mmoe {
namespace {

Job job_of(const std::string& parallelism, int devices) {
  return parse_job(
      nlohmann::json::parse(R"({"model": {"hidden_size": 40, "num_layers": 6, "num_heads": 4, "num_kv_heads": 2,
      "vocab_size": 96, "num_experts": 8, "expert_hidden_size": 10, "shared_expert_hidden_size": 6, "num_dense_layers": 1,
      "dense_hidden_size": 24, "qk_norm": "per_head"}, "hardware": {"device": "cpu", "num_devices": )" +
                            std::to_string(devices) + R"(}, "parallelism": {)" + parallelism +
                            R"(}, "training": {"seq_len": 16, "global_batch_size": 8},
      "elastic": {"k_min": 1, "k_max": 4}})"),
      "job.json", ".");
}

int64_t elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

TEST(TrainerLayout, TensorsAreTheCountedParameters) {
  const Job job = job_of("", 1);
  int64_t total = 0;
  for (const ParameterSpec& spec : parameter_specs(job.model)) total += elements(spec.shape);
  EXPECT_EQ(static_cast<double>(total), parameter_counts(job.model).total());
}

// Each element of the model is held by as many ranks as there are replicas of it.
TEST(TrainerLayout, RanksTogetherHoldTheModel) {
  const Job job = job_of(R"("pipeline": 2, "virtual_pipeline": 3, "expert": 2)", 8);
  std::map<std::string, std::map<int64_t, int64_t>> holders;  // by tensor, by first index of the part
  std::map<std::string, int64_t> held;
  for (int64_t rank = 0; rank < 8; ++rank) {
    for (const ParameterSpec& spec : local_specs(job, rank)) {
      held[spec.name] += elements(spec.shape);
      ++holders[spec.name][spec.part.is_whole() ? 0 : spec.part.ranges[0].begin];
    }
  }
  for (const ParameterSpec& spec : parameter_specs(job.model)) {
    const bool experts = spec.name.find(".experts.") != std::string::npos;
    EXPECT_EQ(held[spec.name], elements(spec.shape) * (experts ? 2 : 4)) << spec.name;
    EXPECT_EQ(holders[spec.name].size(), experts ? 2U : 1U) << spec.name;
  }
}

TEST(TrainerLayout, TensorsLieInTheirSectionsApart) {
  const Job job = job_of(R"("expert": 2, "zero_stage": 1)", 8);
  const std::vector<ParameterSpec> specs = local_specs(job, 3);
  const ParameterPlaces places = place_parameters(specs, section_alignment(job));
  EXPECT_EQ(places.tensors.size(), specs.size());
  int64_t end = 0;
  for (const auto& [index, begin] : places.tensors) {
    const ParameterSpec& spec = specs[index];
    EXPECT_EQ(begin % 16, 0);
    EXPECT_GE(begin, end);
    end = begin + elements(spec.shape);
    EXPECT_EQ(begin < places.num_split_experts, spec.group == ParameterGroup::kSplitExperts) << spec.name;
    EXPECT_EQ(begin < places.num_decayed, spec.decay == WeightDecay::kOn) << spec.name;
  }
  EXPECT_LE(end, places.num_elements);
  EXPECT_EQ(places.num_split_experts % (16 * 4), 0);
  EXPECT_EQ((places.num_decayed - places.num_split_experts) % (16 * 8), 0);
  EXPECT_EQ((places.num_elements - places.num_decayed) % (16 * 8), 0);
}

TEST(TrainerLayout, BucketsTileTheirSectionInEvenShares) {
  for (const int64_t ranks : {1, 3, 8}) {
    const FlatRange section{48, 48 + 16 * ranks * 37};
    int64_t next = section.begin;
    for (const FlatRange& bucket : bucket_ranges(section, ranks, 1000)) {
      EXPECT_EQ(bucket.begin, next);
      EXPECT_GT(bucket.size(), 0);
      EXPECT_LE(bucket.size(), 1000);
      EXPECT_EQ(bucket.size() % (16 * ranks), 0);
      next = bucket.end;
    }
    EXPECT_EQ(next, section.end);
  }
}

TEST(TrainerLayout, FrozenTensorsAreThoseOfTheirPart) {
  const Job job = parse_job(to_json(job_of("", 1)), "job.json", ".", {{"training.freeze", "experts,norms"}});
  const std::vector<ParameterSpec> specs = local_specs(job, 0);
  const ParameterPlaces places = place_parameters(specs, section_alignment(job));
  const std::vector<FlatRange> frozen = frozen_ranges(specs, places, job.training);
  int64_t expected = 0, weights = 0;
  for (const ParameterSpec& spec : specs) {
    if (spec.name.find(".experts.") == std::string::npos && !spec.name.ends_with("norm")) continue;
    expected += padded_elements(spec.shape);
    weights += elements(spec.shape);
  }
  EXPECT_EQ(common_elements(frozen, {{0, places.num_elements}}), expected);
  EXPECT_EQ(frozen_parameters(job.model, job.training), static_cast<double>(weights));
  EXPECT_EQ(frozen_parameters(job.model, {}), 0);
}

TEST(TrainerLayout, EveryTensorBelongsToOnePart) {
  std::map<std::string, int64_t> found;
  const Job job = job_of("", 1);
  double sum = 0;
  for (const char* part : kParameterParts) {
    TrainingConfig training;
    training.freeze = {part};
    found[part] = static_cast<int64_t>(frozen_parameters(job.model, training));
    EXPECT_GT(found[part], 0) << part;
    sum += static_cast<double>(found[part]);
  }
  EXPECT_EQ(sum, parameter_counts(job.model).total());
  EXPECT_EQ(found["embedding"], 96 * 40);
  EXPECT_EQ(found["mlp"], 3 * 24 * 40);    // one dense layer
  EXPECT_EQ(found["router"], 5 * 8 * 40);  // five MoE layers
  EXPECT_EQ(found["shared_expert"], 5 * 3 * 6 * 40);
  EXPECT_EQ(found["norms"], 6 * (2 * 40 + 2 * 10) + 40);
}

TEST(TrainerLayout, CommonElementsOfRanges) {
  EXPECT_EQ(common_elements({{0, 10}, {20, 30}}, {{5, 25}}), 10);
  EXPECT_EQ(common_elements({{0, 10}}, {{10, 20}}), 0);
  EXPECT_EQ(common_elements({}, {{10, 20}}), 0);
}

}  // namespace
}  // namespace mmoe
