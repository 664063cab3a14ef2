#include "sim/plan/trainer_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
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
      ++holders[spec.name][spec.part.is_whole() ? 0 : spec.part.boxes[0][0].begin];
    }
  }
  for (const ParameterSpec& spec : parameter_specs(job.model)) {
    const bool experts = spec.name.find(".experts.") != std::string::npos;
    EXPECT_EQ(held[spec.name], elements(spec.shape) * (experts ? 2 : 4)) << spec.name;
    EXPECT_EQ(holders[spec.name].size(), experts ? 2U : 1U) << spec.name;
  }
}

// Experts lie on tensor parallel ranks too, whole or in parts, and what neither splits on all ranks of the stage.
class TensorRanks : public testing::TestWithParam<const char*> {};

TEST_P(TensorRanks, TogetherHoldTheModel) {
  const Job job = job_of(R"("tensor": 2, "sequence": true, "pipeline": 2, )" + std::string(GetParam()), 8);
  std::map<std::string, std::vector<int>> holders;  // by tensor, of each element
  for (int64_t rank = 0; rank < 8; ++rank) {
    for (const ParameterSpec& spec : local_specs(job, rank)) {
      std::vector<int64_t> shape = spec.part.is_whole() ? spec.shape : spec.part.full_shape;
      std::vector<TensorBox> boxes = spec.part.boxes;
      if (boxes.empty()) {
        boxes.emplace_back();
        for (const int64_t size : shape) boxes[0].push_back({0, size});
      }
      shape.resize(3, 1);
      std::vector<int>& count = holders[spec.name];
      count.resize(static_cast<size_t>(elements(shape)));
      int64_t held = 0;
      for (TensorBox& box : boxes) {
        box.resize(3, {0, 1});
        for (int64_t i = box[0].begin; i < box[0].begin + box[0].count; ++i) {
          for (int64_t j = box[1].begin; j < box[1].begin + box[1].count; ++j) {
            for (int64_t l = box[2].begin; l < box[2].begin + box[2].count; ++l, ++held) {
              ++count[static_cast<size_t>((i * shape[1] + j) * shape[2] + l)];
            }
          }
        }
      }
      EXPECT_EQ(held, elements(spec.shape)) << spec.name;
    }
  }
  for (const ParameterSpec& spec : parameter_specs(job.model)) {
    const bool experts = spec.name.find(".experts.") != std::string::npos;
    const int copies = experts ? 1 : spec.tensor_split.blocks.empty() ? 4 : 2;
    EXPECT_EQ(holders[spec.name], std::vector(static_cast<size_t>(elements(spec.shape)), copies)) << spec.name;
  }
}

INSTANTIATE_TEST_SUITE_P(TrainerLayout, TensorRanks,
                         testing::Values(R"("expert": 4)", R"("expert": 2, "expert_tensor": 2)"));

// Rank 3 holds the second half of experts 4 to 7: of each its rows of gate, then of up, and its columns of down.
TEST(TrainerLayout, ExpertTensorRanksHoldPartsOfEveryExpert) {
  const Job job = job_of(R"("expert": 2, "expert_tensor": 2)", 4);
  const std::vector<ParameterSpec> specs = local_specs(job, 3);
  const auto find = [&](const std::string& name) {
    return *std::find_if(specs.begin(), specs.end(), [&](const ParameterSpec& spec) { return spec.name == name; });
  };
  const int64_t D = job.model.hidden_size, F = job.model.expert_hidden_size, E = job.model.num_experts;
  const ParameterSpec gate_up = find("layers.2.experts.gate_up"), down = find("layers.2.experts.down");
  EXPECT_EQ(gate_up.shape, (std::vector<int64_t>{E / 2, F, D}));
  ASSERT_EQ(gate_up.part.boxes.size(), static_cast<size_t>(E));
  EXPECT_EQ(gate_up.part.boxes[2], (TensorBox{{E / 2 + 1, 1}, {F / 2, F / 2}, {0, D}}));
  EXPECT_EQ(gate_up.part.boxes[3], (TensorBox{{E / 2 + 1, 1}, {F + F / 2, F / 2}, {0, D}}));
  EXPECT_EQ(down.part.boxes, (std::vector<TensorBox>{{{E / 2, E / 2}, {0, D}, {F / 2, F / 2}}}));
}

// Rank 3, the second of two tensor parallel ranks: the second half of the queries, of the keys and of the values.
TEST(TrainerLayout, TensorRanksHoldWholeHeads) {
  const Job job = job_of(R"("tensor": 2, "sequence": true)", 4);
  for (const ParameterSpec& spec : local_specs(job, 3)) {
    if (spec.name == "layers.2.attention.qkv") {  // 4 heads and twice 2 of size 10
      EXPECT_EQ(spec.shape, (std::vector<int64_t>{40, 40}));
      EXPECT_EQ(spec.part.boxes,
                (std::vector<TensorBox>{{{20, 20}, {0, 40}}, {{50, 10}, {0, 40}}, {{70, 10}, {0, 40}}}));
    } else if (spec.name == "layers.0.mlp.down") {
      EXPECT_EQ(spec.part.boxes, (std::vector<TensorBox>{{{0, 40}, {12, 12}}}));
    }
  }
}

TEST(TrainerLayout, TensorsLieInTheirSectionsApart) {
  const Job job = job_of(R"("tensor": 2, "sequence": true, "expert": 2, "zero_stage": 1)", 8);
  const std::vector<ParameterSpec> specs = local_specs(job, 3);
  const ParameterPlaces places = place_parameters(specs, section_alignment(job));
  EXPECT_EQ(places.tensors.size(), specs.size());
  int64_t end = 0;
  for (const auto& [index, begin] : places.tensors) {
    const ParameterSpec& spec = specs[index];
    EXPECT_EQ(begin % 16, 0);
    EXPECT_GE(begin, end);
    end = begin + elements(spec.shape);
    const auto section = std::find_if(places.sections.begin(), places.sections.end(),
                                      [&](const Section& s) { return begin < s.range.end; });
    ASSERT_NE(section, places.sections.end()) << spec.name;
    EXPECT_EQ(section->group, spec.group) << spec.name;
    EXPECT_EQ(begin < places.num_decayed, spec.decay == WeightDecay::kOn) << spec.name;
  }
  EXPECT_LE(end, places.num_elements);
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  for (const Section& section : places.sections) {
    EXPECT_EQ(section.range.size() % (16 * holders_of(section.group, groups).ranks.size), 0);
  }
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

// From ZeRO 2 on each layer goes through collectives of its own, and the shares of the ranks that hold the same weights
// tile them. In bf16 routers, which run in fp32, are apart.
TEST(TrainerLayout, SharesOfLayersTileTheFlatBuffers) {
  Job job = job_of(R"("expert": 2, "zero_stage": 3)", 8);
  job.training.precision = Precision::kBf16;
  const RankGroups groups = rank_groups(job.parallelism, job.hardware.num_devices);
  const std::vector<ParameterSpec> specs = local_specs(job, 0);
  const ParameterPlaces places = place_parameters(specs, section_alignment(job));
  const std::vector<ParameterBucket> buckets = parameter_buckets(job, specs, places);
  int64_t end = 0;
  for (size_t i = 0; i < buckets.size(); ++i) {
    const ParameterBucket& bucket = buckets[i];
    EXPECT_EQ(bucket.range.begin, end);
    end = bucket.range.end;
    const RankGroup ranks = holders_of(bucket.group, groups).ranks;
    EXPECT_EQ(ranks.size, bucket.group == ParameterGroup::kSplitExperts ? 4 : 8);
    int64_t next = bucket.range.begin;
    for (int64_t position = 0; position < ranks.size; ++position) {
      const KeptRanges kept = kept_ranges(job, position * ranks.stride);
      ASSERT_EQ(kept.weights.size(), buckets.size());
      EXPECT_EQ(kept.weights, kept.gradients);
      EXPECT_EQ(kept.weights[i].begin, next);
      EXPECT_EQ(kept.weights[i].size() % 16, 0);
      next = kept.weights[i].end;
    }
    EXPECT_EQ(next, end);
    for (const auto& [index, begin] : places.tensors) {
      if (begin < bucket.range.begin || begin >= bucket.range.end) continue;
      EXPECT_EQ(specs[index].layer, bucket.first_layer) << specs[index].name;
      EXPECT_EQ(specs[index].name == "output", bucket.unit == job.model.num_layers + 1) << specs[index].name;
      EXPECT_EQ(specs[index].name.ends_with(".router"), bucket.group == ParameterGroup::kRouters);
    }
  }
  EXPECT_EQ(end, places.num_elements);
}

// Stage 2 keeps all weights and shares of the gradients, stage 1 all of both.
TEST(TrainerLayout, StagesKeepLessAndLess) {
  const int64_t whole = 0;
  const std::vector<int64_t> weights = {whole, whole, 1}, gradients = {whole, 1, 1};
  for (int64_t stage = 1; stage <= 3; ++stage) {
    const Job job = job_of(R"("zero_stage": )" + std::to_string(stage), 4);
    const KeptRanges kept = kept_ranges(job, 2);
    const int64_t all = place_parameters(local_specs(job, 2), section_alignment(job)).num_elements;
    EXPECT_EQ(num_elements(kept.weights) * 4, weights[stage - 1] * all) << stage;
    EXPECT_EQ(num_elements(kept.gradients) * 4, gradients[stage - 1] * all) << stage;
  }
}

}  // namespace
}  // namespace mmoe
